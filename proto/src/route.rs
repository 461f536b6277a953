//! Routes on the wire. What a proxy couldn't follow is refused here: a pattern that
//! doesn't compile, a header that can't be sent.
//!
//! * [`rule`]: routes and their rules
//! * [`matching`], [`filter`], [`backend`], [`retry`], [`session`]: the parts of a rule
//! * [`field`]: fields that several messages have, those of TrafficPolicies too

pub(crate) mod backend;
pub(crate) mod error;
pub(crate) mod field;
mod filter;
mod matching;
mod retry;
mod rule;
mod session;

pub use error::InvalidRoute;
