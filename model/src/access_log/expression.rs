//! What a filter is made of, and what it looks at.

use std::cmp::Ordering;

/// Bytes of an expression at the most.
pub const LONGEST: usize = 1024;

/// A field that is a number; times are in microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NumberField {
    /// Status of a response.
    Status,
    /// Status of gRPC.
    GrpcStatus,
    /// Endpoints that were tried.
    Attempts,
    /// Bytes to the destination.
    BytesSent,
    /// Bytes from it.
    BytesReceived,
    /// From begin to end.
    Duration,
    /// Until the destination was connected.
    ConnectTime,
    /// To the peer, as the kernel measured it.
    RoundTripTime,
    /// Segments that were sent to the peer more than once.
    Retransmits,
}

/// A field that is a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TextField {
    /// `connection` or `request`.
    Kind,
    /// The response flag; empty when nothing went wrong.
    Flags,
    /// `inbound` or `outbound`.
    Direction,
    /// What protects it.
    Security,
    /// Method of a request.
    Method,
    /// Its path without query.
    Path,
    /// Its host.
    Authority,
    /// The pod that asks.
    SourceWorkload,
    /// Its namespace.
    SourceNamespace,
    /// The pod that is asked.
    DestinationWorkload,
    /// Its namespace.
    DestinationNamespace,
}

/// A connection or request that has ended, for filters to look at.
pub trait FilteredRecord {
    /// A number of it, where it has that.
    fn number(&self, field: NumberField) -> Option<u64>;

    /// A text of it, where it has that.
    fn text(&self, field: TextField) -> Option<&str>;
}

/// A comparison with a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    /// Of texts: it has the value in it.
    Contains,
    /// Of texts: it begins with the value.
    StartsWith,
}

/// A part of an expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Number(NumberField, Comparison, u64),
    Text(TextField, Comparison, Box<str>),
}

impl Expression {
    /// Whether a record fulfils it.
    pub(super) fn matches(&self, record: &impl FilteredRecord) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(record)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(record)),
            Self::Not(part) => !part.matches(record),
            Self::Number(field, comparison, value) => match record.number(*field) {
                Some(number) => comparison.holds(number.cmp(value)),
                None => *comparison == Comparison::NotEqual,
            },
            Self::Text(field, comparison, value) => match (record.text(*field), comparison) {
                (None, comparison) => *comparison == Comparison::NotEqual,
                (Some(text), Comparison::Contains) => text.contains(&**value),
                (Some(text), Comparison::StartsWith) => text.starts_with(&**value),
                (Some(text), comparison) => comparison.holds(text.cmp(value)),
            },
        }
    }
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
            Self::Contains | Self::StartsWith => false,
        }
    }
}
