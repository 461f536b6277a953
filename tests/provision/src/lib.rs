//! What builds and tests need from outside of this workspace, and how to get it.
//!
//! * [`packages`]: packages of the distribution
//! * [`prerequisites`]: what the kernel and this process have to have
//! * [`go`]: Kubernetes and other programs, built from Go modules
//! * [`folders`]: where what was built is kept
//!
//! Small on purpose, in dependencies most of all: `cargo xtask` is built from it before
//! anything else is, and starts building Go's programs while Cargo builds Rust's.

pub mod cgroup2;
mod error;
pub mod folders;
pub mod go;
pub mod packages;
pub mod prerequisites;

pub use error::ProvisionError;
