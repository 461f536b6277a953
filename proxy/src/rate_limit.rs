//! Asking a rate limit service before a request goes on (`envoy.service.ratelimit.v3`).
//!
//! * [`client`]: what one pod asks
//! * [`decision`]: the decision that an answer is (pure)
//! * [`channels`]: connections to services in the mesh
//! * [`control_plane`]: the control plane's own service
//! * [`error`]: why nobody said
//!
//! The service is asked as the pod itself would ask it, through whatever connects the
//! pod to it: [`RateLimits::check`] is given that.

mod channels;
mod client;
mod control_plane;
mod decision;
mod error;

pub(crate) use self::client::RateLimits;
pub(crate) use self::decision::{RateLimitDecision, RateLimitHeaders};
