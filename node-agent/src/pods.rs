//! The pods of this node: what the control plane says about them becomes the case.
//!
//! * [`PodController`] (`controller`) follows the mesh and keeps a task for each pod;
//!   `reconcile` decides which (pure)
//! * `task` does one step after another for its pod; `state` has the pod's states, and says
//!   which step comes next (pure)
//! * `captured_pod`, `outside_pod`: what the steps do, and undo; `addressed_workload`: by which
//!   addresses
//! * `unknown` refuses those that nobody has told of, where that is wanted; `known_pod` lets the others
//!   pass then
//! * `held`: their applications that wait in `connect()`
//! * [`PodStatuses`] (`status`): every pod's phase, to be looked at
//! * [`NodeContext`] (`context`): what all of them share

mod addressed_workload;
mod captured_pod;
mod claimed_pod;
mod context;
mod controller;
mod error;
#[cfg(test)]
mod fixtures;
mod held;
mod known_pod;
mod leftovers;
mod outside_pod;
mod phase;
mod reconcile;
mod state;
mod status;
mod task;
mod unknown;

pub(crate) use self::context::{NodeContext, PodSettings};
pub(crate) use self::controller::PodController;
pub(crate) use self::held::answer_attempts;
pub(crate) use self::phase::PodPhase;
pub(crate) use self::status::PodStatuses;
pub(crate) use self::unknown::refuse_unknown_pods;
