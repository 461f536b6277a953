//! What is known of connections and requests: counted, logged and listed.
//!
//! A connection or a request has one record, made when it begins. However it ends, the
//! record leaves by one exit, and that is where metrics and access log learn of it.
//!
//! * [`flag`]: the short word for what became of it
//! * [`info`]: what a connection is, known before its first byte
//! * [`outcome`]: how it went
//! * [`progress`]: bytes carried so far
//! * [`metrics`], [`access_log`]: where it goes

#![allow(
    dead_code,
    reason = "built beside the walks, which are switched over to it next"
)]

pub(crate) mod access_log;
pub mod flag;
pub mod info;
pub mod metrics;
pub(crate) mod outcome;
pub(crate) mod progress;

pub use flag::ResponseFlag;
pub use metrics::Metrics;
