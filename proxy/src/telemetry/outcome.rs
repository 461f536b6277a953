//! How connections and requests went.

use std::time::Duration;

use http::{Method, StatusCode};
use weft_model::route::table::CompiledRule;

use super::authorization::AuthorizationNote;
use super::flag::ResponseFlag;
use super::progress::ByteCount;
use super::tcp::TcpReports;

/// How a connection that carried bytes ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CloseReason {
    /// Both sides finished in order.
    Finished,
    /// The side that opened the connection reset it.
    DownstreamReset,
    /// The side that was connected to reset it.
    UpstreamReset,
    /// Nothing moved for too long.
    IdleTimeout,
    /// It held too much for an end that takes nothing.
    MemoryExceeded,
}

impl CloseReason {
    /// Its word in metrics and access log.
    pub(crate) fn flag(self) -> ResponseFlag {
        match self {
            Self::Finished => ResponseFlag::None,
            Self::DownstreamReset => ResponseFlag::DownstreamReset,
            Self::UpstreamReset => ResponseFlag::UpstreamReset,
            Self::IdleTimeout => ResponseFlag::IdleTimeout,
            Self::MemoryExceeded => ResponseFlag::MemoryLimit,
        }
    }
}

/// Why the proxy cuts a connection that both sides would go on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CutReason {
    /// It is not allowed any more.
    PolicyChanged,
    /// The pod's proxy ends.
    ProxyStopped,
}

impl CutReason {
    /// Its word in metrics and access log.
    pub(crate) fn flag(self) -> ResponseFlag {
        match self {
            Self::PolicyChanged => ResponseFlag::PolicyChanged,
            Self::ProxyStopped => ResponseFlag::ProxyStopped,
        }
    }

    /// The same in words, for the access log.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::PolicyChanged => "cut: the connection is not allowed any more",
            Self::ProxyStopped => "cut: the pod's proxy ended before the connection did",
        }
    }
}

/// How a connection went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// What became of it, as one word.
    pub(crate) flag: ResponseFlag,
    /// What went wrong, in words.
    pub(crate) error: Option<String>,
}

impl Outcome {
    /// It never carried a byte, or broke with an error.
    pub(crate) fn failed(flag: ResponseFlag, error: &dyn std::error::Error) -> Self {
        Self {
            flag,
            error: Some(error.to_string()),
        }
    }
}

impl From<CloseReason> for Outcome {
    fn from(reason: CloseReason) -> Self {
        Self {
            flag: reason.flag(),
            error: None,
        }
    }
}

impl From<CutReason> for Outcome {
    fn from(reason: CutReason) -> Self {
        Self {
            flag: reason.flag(),
            error: Some(reason.message().to_owned()),
        }
    }
}

/// How a connection went, and what is known of it at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionOutcome<'a> {
    /// What AuthorizationPolicies said of it.
    pub(crate) authorization: &'a AuthorizationNote,
    /// What became of it.
    pub(crate) outcome: &'a Outcome,
    /// Bytes that it carried.
    pub(crate) bytes: ByteCount,
    /// What the kernel told of its ends.
    pub(crate) tcp: &'a TcpReports,
    /// `None` when the destination was never connected.
    pub(crate) connect_time: Option<Duration>,
    /// From the time when it was accepted.
    pub(crate) duration: Duration,
}

/// How a request went, and what it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestOutcome<'a> {
    /// Its method.
    pub(crate) method: &'a Method,
    /// Its path without query.
    pub(crate) path: &'a str,
    /// Its `host` or `host:port`.
    pub(crate) authority: &'a str,
    /// The rule that matched it.
    pub(crate) rule: Option<&'a CompiledRule>,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
    /// `None` when the client got no answer.
    pub(crate) status: Option<StatusCode>,
    /// The status of gRPC, where one was sent.
    pub(crate) grpc_status: Option<u16>,
    /// What became of it, as one word.
    pub(crate) flag: ResponseFlag,
    /// What AuthorizationPolicies said of it.
    pub(crate) authorization: &'a AuthorizationNote,
    /// Attempts that were made.
    pub(crate) attempts: u32,
    /// Bytes of the request's body.
    pub(crate) sent: u64,
    /// Bytes of the response's body.
    pub(crate) received: u64,
    /// From the request's first byte to the response's last.
    pub(crate) duration: Duration,
}
