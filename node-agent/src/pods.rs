//! The pods of this node: what the control plane says about them becomes the case.
//!
//! * [`PodController`] (`controller`) follows the mesh and keeps a task for each pod;
//!   `reconcile` decides which (pure)
//! * `task` does one step after another for its pod; `state` has the pod's states, and says
//!   which step comes next (pure)
//! * `captured_pod`, `outside_pod`: what the steps do, and undo
//! * [`PodStatuses`] (`status`): every pod's phase, to be looked at
//! * [`NodeContext`] (`context`): what all of them share

mod captured_pod;
mod context;
mod controller;
mod error;
#[cfg(test)]
mod fixtures;
mod outside_pod;
mod phase;
mod reconcile;
mod state;
mod status;
mod task;

pub(crate) use self::context::{NodeContext, PodSettings};
pub(crate) use self::controller::PodController;
pub(crate) use self::phase::PodPhase;
pub(crate) use self::status::PodStatuses;
