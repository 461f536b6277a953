//! Sidecars, put into pods: by the webhook, and into files.
//!
//! * [`options`]: what all sidecars of a mesh have in common
//! * [`injection`]: from a pod, and what holds for it, to what is added; pure
//! * [`containers`]: the containers of a sidecar, and their volume
//! * [`affinity`]: what keeps a pod off nodes that can't capture
//! * [`addition`]: one of the additions, as a JSON patch says it
//! * [`files`]: the same on manifests
//! * [`known`]: the sidecars that this mesh injects, and those that it injected before
//! * [`roots`]: the roots that sidecars trust, in the namespaces of their pods

mod addition;
mod affinity;
mod containers;
mod files;
mod injection;
mod known;
mod options;
mod roots;

pub(crate) use addition::{Addition, apply_patch};
pub(crate) use files::{FileError, inject_text};
pub(crate) use injection::{injection, readiness_gate};
pub(crate) use known::{KnownSidecars, KnownSidecarsError};
pub(crate) use options::{InjectedShape, InjectionOptions};
pub(crate) use roots::SidecarRoots;
