//! The fields of the access log's lines, as `docs/access-log.md` explains them.

use std::str::FromStr;

/// A field of a line.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "their names are those of the documentation")]
pub enum Field {
    Component,
    Direction,
    Path,
    Security,
    SourceAddress,
    SourceWorkload,
    SourceNamespace,
    SourceIdentity,
    DestinationAddress,
    DestinationWorkload,
    DestinationNamespace,
    DestinationIdentity,
    DestinationService,
    OriginalDestination,
    BytesSent,
    BytesReceived,
    DurationUs,
    Flags,
    AuthorizationPolicy,
    AuthorizationRule,
    AuthorizationAudit,
    AuthorizationDryRun,
    ConnectUs,
    Error,
    TcpDownstreamRttUs,
    TcpDownstreamRetransmits,
    TcpDownstreamDeliveredBytes,
    TcpUpstreamRttUs,
    TcpUpstreamRetransmits,
    TcpUpstreamDeliveredBytes,
    RequestMethod,
    RequestPath,
    RequestAuthority,
    RequestRoute,
    RequestRule,
    ResponseStatus,
    ResponseGrpcStatus,
    RequestPrincipal,
    RequestRefusedToken,
    Attempts,
}

/// All fields, with their names.
const NAMES: [(Field, &str); 40] = [
    (Field::Component, "component"),
    (Field::Direction, "direction"),
    (Field::Path, "path"),
    (Field::Security, "security"),
    (Field::SourceAddress, "source.address"),
    (Field::SourceWorkload, "source.workload"),
    (Field::SourceNamespace, "source.namespace"),
    (Field::SourceIdentity, "source.identity"),
    (Field::DestinationAddress, "destination.address"),
    (Field::DestinationWorkload, "destination.workload"),
    (Field::DestinationNamespace, "destination.namespace"),
    (Field::DestinationIdentity, "destination.identity"),
    (Field::DestinationService, "destination.service"),
    (Field::OriginalDestination, "original_destination"),
    (Field::BytesSent, "bytes_sent"),
    (Field::BytesReceived, "bytes_received"),
    (Field::DurationUs, "duration_us"),
    (Field::Flags, "flags"),
    (Field::AuthorizationPolicy, "authorization_policy"),
    (Field::AuthorizationRule, "authorization_rule"),
    (Field::AuthorizationAudit, "authorization_audit"),
    (Field::AuthorizationDryRun, "authorization_dry_run"),
    (Field::ConnectUs, "connect_us"),
    (Field::Error, "error"),
    (Field::TcpDownstreamRttUs, "tcp.downstream.rtt_us"),
    (
        Field::TcpDownstreamRetransmits,
        "tcp.downstream.retransmits",
    ),
    (
        Field::TcpDownstreamDeliveredBytes,
        "tcp.downstream.delivered_bytes",
    ),
    (Field::TcpUpstreamRttUs, "tcp.upstream.rtt_us"),
    (Field::TcpUpstreamRetransmits, "tcp.upstream.retransmits"),
    (
        Field::TcpUpstreamDeliveredBytes,
        "tcp.upstream.delivered_bytes",
    ),
    (Field::RequestMethod, "request.method"),
    (Field::RequestPath, "request.path"),
    (Field::RequestAuthority, "request.authority"),
    (Field::RequestRoute, "request.route"),
    (Field::RequestRule, "request.rule"),
    (Field::ResponseStatus, "response.status"),
    (Field::ResponseGrpcStatus, "response.grpc_status"),
    (Field::RequestPrincipal, "request.principal"),
    (Field::RequestRefusedToken, "request.refused_token"),
    (Field::Attempts, "attempts"),
];

/// A name that no field of the access log has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the access log has no field `{0}`; docs/access-log.md lists them")]
pub struct UnknownField(String);

impl Field {
    /// Its name in a line.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = NAMES.iter().find(|(field, _)| *field == self);
        named.map_or("", |(_, name)| name)
    }

    /// All fields.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(field, _)| *field)
    }
}

impl FromStr for Field {
    type Err = UnknownField;

    fn from_str(text: &str) -> Result<Self, UnknownField> {
        let named = NAMES.iter().find(|(_, name)| *name == text);
        named
            .map(|(field, _)| *field)
            .ok_or_else(|| UnknownField(text.to_owned()))
    }
}

/// Some of the fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FieldSet(u64);

impl FieldSet {
    /// Each of them.
    pub const ALL: Self = Self(u64::MAX);
    /// Who asked for what, and what became of it.
    pub const ASKED_FOR: Self = Self(
        bit(Field::Flags)
            | bit(Field::Error)
            | bit(Field::RequestMethod)
            | bit(Field::RequestPath)
            | bit(Field::RequestAuthority)
            | bit(Field::ResponseStatus)
            | bit(Field::OriginalDestination)
            | bit(Field::SourceAddress)
            | bit(Field::DestinationService),
    );

    /// Whether the field is one of them.
    #[must_use]
    pub fn contains(self, field: Field) -> bool {
        self.0 & bit(field) != 0
    }

    /// These and the others.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Each of them, in the order of the documentation.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::all().filter(move |field| self.contains(*field))
    }
}

impl FromIterator<Field> for FieldSet {
    fn from_iter<T: IntoIterator<Item = Field>>(fields: T) -> Self {
        let fields = fields.into_iter();
        Self(fields.fold(0, |set, field| set | bit(field)))
    }
}

const fn bit(field: Field) -> u64 {
    1 << (field as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_found_by_its_name_and_has_a_place_of_its_own() {
        for field in Field::all() {
            assert_eq!(field.name().parse(), Ok(field));
            let alone = FieldSet::from_iter([field]);
            assert_eq!(alone.iter().collect::<Vec<_>>(), [field]);
        }
        assert_eq!(FieldSet::ALL.iter().count(), Field::all().count());
        let error = "status".parse::<Field>().unwrap_err();
        assert!(error.to_string().contains("`status`"));
    }
}
