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
//! * [`tcp`]: what the kernel told of the sockets beneath
//! * [`authorization`]: what AuthorizationPolicies said
//! * [`metrics`], [`access_log`]: where it goes; [`filtered`], [`line_budget`]: whether it has a line there

mod access_log;
mod authorization;
mod connection_record;
mod cut;
mod filtered;
mod flag;
mod info;
mod line_budget;
pub mod metrics;
mod node_telemetry;
mod outcome;
mod progress;
mod request_record;
mod table;
mod tcp;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub(crate) use self::authorization::AuthorizationNote;
pub(crate) use self::connection_record::ConnectionRecord;
pub use self::flag::ResponseFlag;
pub(crate) use self::info::{ConnectionInfo, Hop, Peer, Security};
pub use self::metrics::{Metrics, SERIES_PER_NODE, SERIES_PER_POD};
pub(crate) use self::node_telemetry::PodTelemetry;
pub use self::node_telemetry::Telemetry;
pub(crate) use self::outcome::{CloseReason, CutReason};
pub(crate) use self::progress::{DirectionProgress, Progress};
pub(crate) use self::request_record::{RequestDescription, RequestRecord};
pub use self::table::ConnectionTables;
pub(crate) use self::table::StillAllowed;
pub(crate) use self::tcp::{TcpReport, TcpReported, TcpReports};
