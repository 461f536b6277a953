//! The status of objects, as far as the control plane writes it.
//!
//! * [`queue`]: objects whose status may have to be written
//! * [`writer`], [`patch`]: how one gets there
//! * [`controller`]: watches the kinds that have a status of ours
//! * [`kind_status`]: the seam between it and each of them
//! * [`accepted`], [`authorization_policy`], [`traffic_policy`], [`route`]: these kinds
//! * [`condition`]: one condition in a list of them

mod accepted;
mod authorization_policy;
mod condition;
mod controller;
mod kind_status;
mod patch;
mod queue;
mod route;
mod traffic_policy;
mod writer;

pub(crate) use controller::StatusController;
pub(crate) use patch::StatusPatch;
pub(crate) use queue::StatusQueue;
pub(crate) use writer::{Outcome, write_queued};
