//! The test bed: nodes and pods as network namespaces, a mesh that runs on them, and
//! what proves how it behaves.
//!
//! * [`run`]: names that say whose they are, and the collection of what dead runs left
//! * [`netns`], [`cgroup`], [`process`]: the kernel's parts, each removed when dropped
//! * [`topology`]: nodes joined by a bridge, pods behind them
//! * [`manifest`]: the Kubernetes documents that a mesh runs from
//! * [`mesh`]: control plane, agents and applications on a topology
//! * [`image`]: programs as container images, without a container engine
//! * [`cluster`]: a real Kubernetes on such nodes, or its API server alone
//! * [`conformance`]: the Gateway API's own tests of meshes
//! * [`access_log`], [`packets`]: evidence
//!
//! Everything needs root; without it `weft_provision::prerequisites` says so.

pub mod access_log;
pub mod cgroup;
pub mod cluster;
pub mod conformance;
pub mod error;
pub mod http;
pub mod image;
pub mod manifest;
pub mod mesh;
pub mod netns;
pub mod packets;
pub mod process;
pub mod run;
pub mod topology;
mod wait;

pub use error::{Error, Result};
pub use wait::{wait_for, wait_until};
