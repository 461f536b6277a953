//! TrafficPolicies, and the state that their parts keep while requests are served. Policies
//! come from users; states are values that the proxy keeps, and that decide when they are
//! given the policy and the time.
//!
//! * [`policy`]: the TrafficPolicy of a Service, its load balancing and its limits
//! * [`circuit_breaker`], [`outlier`], [`retry_budget`]: what happens when requests fail
//! * [`token_bucket`], [`rate_limit`]: local and global rate limits; [`receiving`]: those that the
//!   workload that is called counts
//! * [`fault`]: fault injection
//! * [`window`]: counts over a sliding window, which these are made from

pub mod circuit_breaker;
pub mod fault;
pub mod outlier;
pub mod policy;
pub mod rate_limit;
pub mod receiving;
pub mod retry_budget;
pub mod token_bucket;
pub mod window;

pub use circuit_breaker::CircuitBreaker;
pub use fault::{Fault, FaultKind, InjectedAbort, InjectedFault};
pub use outlier::OutlierDetection;
pub use policy::{Balancer, HashKey, Limits, LocalityPreference, TrafficPolicy};
pub use rate_limit::{DescriptorEntry, GlobalRateLimit};
pub use receiving::ReceivingRateLimits;
pub use retry_budget::RetryBudget;
pub use token_bucket::LocalRateLimit;
