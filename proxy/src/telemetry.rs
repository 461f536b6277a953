//! What is known of connections and requests: counted, logged and listed.
//!
//! A connection or a request has one record, made when it begins. However it ends, the
//! record leaves by one exit, and that is where metrics and access log learn of it.
//!
//! * [`connection_record`], [`request_record`]: the records
//! * [`node_telemetry`]: what the records of a node, and of one pod, count in
//! * [`table`]: connections that are open, to list, to cut and to count
//! * [`cut`]: telling whoever serves a connection that it has to go
//! * [`info`]: what a connection is, known before its first byte
//! * [`outcome`]: how it went; [`flag`]: the same as one short word
//! * [`progress`]: bytes carried so far
//! * [`metrics`], [`access_log`]: where it goes

#![allow(
    dead_code,
    reason = "built beside the walks, which are switched over to it next"
)]

pub(crate) mod access_log;
pub(crate) mod connection_record;
mod cut;
pub mod flag;
pub mod info;
pub mod metrics;
pub(crate) mod node_telemetry;
pub(crate) mod outcome;
pub(crate) mod progress;
pub(crate) mod request_record;
pub(crate) mod table;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use flag::ResponseFlag;
pub use metrics::Metrics;
pub use node_telemetry::Telemetry;
pub use table::ConnectionTables;
