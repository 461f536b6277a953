//! Why nobody said whether a request is over its limit.

use std::time::Duration;

use crate::control_plane::ControlPlaneError;

/// Why nobody said whether a request is over its limit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RateLimitError {
    /// The service didn't answer within the policy's timeout.
    #[error("the rate limit service did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It answered with an error, or the connection to it failed.
    #[error("the rate limit service: {0}")]
    Failed(String),
    /// It has no endpoint that can be reached.
    #[error("the rate limit service has no endpoint")]
    NoEndpoint,
    /// The control plane is meant, and there is none.
    #[error("there is no control plane to ask about rate limits")]
    NoControlPlane,
    /// The control plane can't be asked.
    #[error("asking the control plane about rate limits: {0}")]
    ControlPlane(#[from] ControlPlaneError),
    /// Too many questions of this pod are under way.
    #[error("too many questions to the rate limit service are under way")]
    Busy,
}
