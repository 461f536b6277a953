//! Errors of counting in Redis.

use std::sync::Arc;

/// A reason not to have counted anything.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RedisError {
    /// There is no connection, or it broke.
    #[error("Redis at {address}: {reason}")]
    Unreachable {
        /// Host and port.
        address: Arc<str>,
        /// The system's words.
        reason: String,
    },
    /// It doesn't answer.
    #[error("Redis at {0} doesn't answer in time")]
    Late(Arc<str>),
    /// It answered with an error.
    #[error("Redis at {address} answers `{error}`")]
    Refused {
        /// Host and port.
        address: Arc<str>,
        /// Its words.
        error: String,
    },
    /// More is asked than it can answer.
    #[error("too many requests wait for Redis")]
    Busy,
}
