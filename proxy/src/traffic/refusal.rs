//! What TrafficPolicies refuse.

use std::time::Duration;

use crate::telemetry::ResponseFlag;

/// Why a TrafficPolicy lets a connection, a request or a retry not through now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub(crate) enum PolicyRefusal {
    /// The circuit breaker is open.
    #[error("the service's circuit breaker is open: too many requests to it have failed")]
    CircuitOpen {
        /// When it is worth asking again.
        retry_after: Option<Duration>,
    },
    /// As many connections as `limits.connections` allows.
    #[error("the workload has as many connections to the service as its policy allows")]
    TooManyConnections,
    /// As many requests as `limits.requests` allows.
    #[error("the workload has as many requests to the service under way as its policy allows")]
    TooManyRequests,
    /// As many waiting requests as `limits.pendingRequests` allows.
    #[error("as many requests of the workload wait for the service as its policy allows")]
    TooManyPending,
    /// More often than `rateLimit.local` allows.
    #[error("the workload asks the service more often than its policy allows")]
    RateLimited {
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// More often than `rateLimit.instance` allows, or than `rateLimit.local` does at the workload
    /// that is called.
    #[error("the workload that is called is asked more often than the service's policy allows")]
    ReceivingRateLimited {
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// More retries than `retryBudget` allows.
    #[error("more of the workload's requests would be retries than the service's budget allows")]
    RetryBudget,
}

impl PolicyRefusal {
    /// The flag for metrics, the access log and the header `x-weft-reason`.
    pub(crate) fn flag(self) -> ResponseFlag {
        match self {
            Self::CircuitOpen { .. } => ResponseFlag::CircuitOpen,
            Self::TooManyConnections => ResponseFlag::TooManyConnections,
            Self::TooManyRequests => ResponseFlag::TooManyRequests,
            Self::TooManyPending => ResponseFlag::TooManyPending,
            Self::RateLimited { .. } | Self::ReceivingRateLimited { .. } => {
                ResponseFlag::RateLimited
            }
            Self::RetryBudget => ResponseFlag::RetryBudget,
        }
    }

    /// When it is worth asking again, where that is known.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after } => retry_after,
            Self::RateLimited { retry_after } | Self::ReceivingRateLimited { retry_after } => {
                Some(retry_after)
            }
            Self::TooManyConnections
            | Self::TooManyRequests
            | Self::TooManyPending
            | Self::RetryBudget => None,
        }
    }
}
