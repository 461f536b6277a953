//! Values of labels that come from the wire: those that are known, and few for all others.
//! Whoever answers requests chooses what he answers, and must not choose how much memory
//! that takes.

use std::fmt;

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::telemetry::flag::ResponseFlag;

/// The largest status of gRPC that has a name.
const LARGEST_GRPC_STATUS: u16 = 16;
/// Istio's value for what isn't known.
pub(super) const UNKNOWN: &str = "unknown";
/// The value of labels that a pod has too many of.
pub(super) const OVERFLOW: &str = "overflow";

/// The status of a response.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum CodeLabel {
    /// The client went away before there was one: Istio's value is 0.
    None,
    /// One of those that IANA lists.
    Known(u16),
    /// Another of that hundred, written as `4xx`.
    Class(u16),
    /// None that HTTP has.
    Unknown,
}

impl CodeLabel {
    pub(super) fn new(status: Option<StatusCode>) -> Self {
        match status {
            None => Self::None,
            Some(status) if status.canonical_reason().is_some() => Self::Known(status.as_u16()),
            Some(status) => Self::of_class(status.as_u16()),
        }
    }

    /// The same with no more than its hundred.
    pub(super) fn class(self) -> Self {
        match self {
            Self::Known(code) => Self::of_class(code),
            Self::None | Self::Class(_) | Self::Unknown => self,
        }
    }

    fn of_class(code: u16) -> Self {
        match code / 100 {
            class @ 1..=5 => Self::Class(class),
            _ => Self::Unknown,
        }
    }
}

impl EncodeLabelValue for CodeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::None => 0_u16.encode(encoder),
            Self::Known(code) => code.encode(encoder),
            Self::Class(class) => {
                class.encode(encoder)?;
                "xx".encode(encoder)
            }
            Self::Unknown => UNKNOWN.encode(encoder),
        }
    }
}

/// The status of a response of gRPC.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum GrpcStatusLabel {
    /// It has none.
    None,
    /// One that has a name.
    Known(u16),
    /// Another number.
    Unknown,
    /// Any: the pod has as many series as it may.
    Overflow,
}

impl GrpcStatusLabel {
    pub(super) fn new(status: Option<u16>) -> Self {
        match status {
            None => Self::None,
            Some(status) if status <= LARGEST_GRPC_STATUS => Self::Known(status),
            Some(_) => Self::Unknown,
        }
    }
}

impl EncodeLabelValue for GrpcStatusLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::None => "".encode(encoder),
            Self::Known(status) => status.encode(encoder),
            Self::Unknown => UNKNOWN.encode(encoder),
            Self::Overflow => OVERFLOW.encode(encoder),
        }
    }
}

impl EncodeLabelValue for ResponseFlag {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.as_str().encode(encoder)
    }
}

/// How a connection or a request ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum FlagLabel {
    /// In this way.
    Flag(ResponseFlag),
    /// In any: the pod has as many series as it may.
    Overflow,
}

impl EncodeLabelValue for FlagLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.encode(encoder),
            Self::Overflow => OVERFLOW.encode(encoder),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn whatever_a_server_answers_there_are_few_values() {
        let codes = (0..1000).map(|code| CodeLabel::new(StatusCode::from_u16(code).ok()));
        let codes: HashSet<_> = codes.collect();
        assert!(codes.len() < 80, "{}", codes.len());
        let statuses: HashSet<_> = (0..=u16::MAX)
            .map(|status| GrpcStatusLabel::new(Some(status)))
            .collect();
        assert_eq!(statuses.len(), 18);
    }

    #[test]
    fn a_status_that_nobody_has_registered_counts_with_its_hundred() {
        let label = |code| CodeLabel::new(StatusCode::from_u16(code).ok());
        assert_eq!(label(503), CodeLabel::Known(503));
        assert_eq!(label(555), CodeLabel::Class(5));
        assert_eq!(label(999), CodeLabel::Unknown);
        assert_eq!(label(404).class(), label(499));
    }
}
