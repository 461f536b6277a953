//! One structured line for each connection and each request, with the target `access`.

use std::fmt::Display;
use std::time::Duration;

use weft_model::access_log::field::Field;

use super::filtered::{EndedConnection, EndedRequest, admit};
use super::info::ConnectionInfo;
use super::node_telemetry::PodTelemetry;
use super::outcome::{ConnectionOutcome, RequestOutcome};
use super::tcp::TcpReport;

/// Writes the line of a connection.
pub(crate) fn write_connection(
    pod: &PodTelemetry,
    connection: &ConnectionInfo,
    ended: &ConnectionOutcome<'_>,
) {
    let record = EndedConnection { connection, ended };
    let Some(fields) = admit(pod, connection, ended.outcome.flag, &record) else {
        return;
    };
    let shows = |field| fields.contains(field);
    let (authorization, outcome) = (ended.authorization, ended.outcome);
    let statistics = |report: &TcpReport| report.statistics;
    let downstream = ended.tcp.downstream.as_ref().map(statistics);
    let upstream = ended.tcp.upstream.as_ref().map(statistics);
    let ConnectionInfo {
        source,
        destination,
        ..
    } = connection;
    tracing::info!(
        target: "access",
        component = shows(Field::Component).then(|| pod.component().as_str()),
        direction = shows(Field::Direction).then(|| connection.direction.as_str()),
        path = shows(Field::Path).then(|| connection.hop.as_str()),
        security = shows(Field::Security).then(|| connection.security.as_str()),
        source.address = shows(Field::SourceAddress).then(|| text(source.address.as_ref())),
        source.workload = shows(Field::SourceWorkload).then(|| source.pod.as_deref().unwrap_or("-")),
        source.namespace = shows(Field::SourceNamespace).then(|| source.namespace.as_deref().unwrap_or("-")),
        source.identity = shows(Field::SourceIdentity).then(|| text(source.identity.as_ref())),
        destination.address = shows(Field::DestinationAddress).then(|| text(destination.address.as_ref())),
        destination.workload = shows(Field::DestinationWorkload).then(|| destination.pod.as_deref().unwrap_or("-")),
        destination.namespace = shows(Field::DestinationNamespace).then(|| destination.namespace.as_deref().unwrap_or("-")),
        destination.identity = shows(Field::DestinationIdentity).then(|| text(destination.identity.as_ref())),
        destination.service = shows(Field::DestinationService).then(|| text(connection.service.as_ref())),
        original_destination = shows(Field::OriginalDestination).then(|| text(connection.original_destination.as_ref())),
        bytes_sent = shows(Field::BytesSent).then_some(ended.bytes.sent),
        bytes_received = shows(Field::BytesReceived).then_some(ended.bytes.received),
        duration_us = shows(Field::DurationUs).then(|| micros(ended.duration)),
        connect_us = shows(Field::ConnectUs).then(|| ended.connect_time.map(micros)).flatten(),
        flags = shows(Field::Flags).then(|| outcome.flag.as_str()),
        authorization_policy = shows(Field::AuthorizationPolicy).then(|| authorization.decided().map(|decided| tracing::field::display(&decided.policy))).flatten(),
        authorization_rule = shows(Field::AuthorizationRule).then(|| authorization.decided().and_then(|decided| decided.rule)).flatten(),
        authorization_audit = shows(Field::AuthorizationAudit).then(|| authorization.audited()).flatten(),
        authorization_dry_run = shows(Field::AuthorizationDryRun).then(|| authorization.dry_run()).flatten(),
        error = shows(Field::Error).then_some(outcome.error.as_deref()).flatten(),
        tcp.downstream.rtt_us = shows(Field::TcpDownstreamRttUs).then(|| downstream.and_then(|tcp| tcp.smoothed_rtt).map(micros)).flatten(),
        tcp.downstream.retransmits = shows(Field::TcpDownstreamRetransmits).then(|| downstream.map(|tcp| tcp.retransmits)).flatten(),
        tcp.downstream.delivered_bytes = shows(Field::TcpDownstreamDeliveredBytes).then(|| downstream.map(|tcp| tcp.delivered_bytes)).flatten(),
        tcp.upstream.rtt_us = shows(Field::TcpUpstreamRttUs).then(|| upstream.and_then(|tcp| tcp.smoothed_rtt).map(micros)).flatten(),
        tcp.upstream.retransmits = shows(Field::TcpUpstreamRetransmits).then(|| upstream.map(|tcp| tcp.retransmits)).flatten(),
        tcp.upstream.delivered_bytes = shows(Field::TcpUpstreamDeliveredBytes).then(|| upstream.map(|tcp| tcp.delivered_bytes)).flatten(),
        "connection"
    );
}

/// Writes the line of a request.
pub(crate) fn write_request(
    pod: &PodTelemetry,
    connection: &ConnectionInfo,
    request: &RequestOutcome<'_>,
) {
    let record = EndedRequest {
        connection,
        request,
    };
    let Some(fields) = admit(pod, connection, request.flag, &record) else {
        return;
    };
    let shows = |field| fields.contains(field);
    let authorization = request.authorization;
    let ConnectionInfo {
        source,
        destination,
        ..
    } = connection;
    tracing::info!(
        target: "access",
        component = shows(Field::Component).then(|| pod.component().as_str()),
        direction = shows(Field::Direction).then(|| connection.direction.as_str()),
        path = shows(Field::Path).then(|| connection.hop.as_str()),
        security = shows(Field::Security).then(|| connection.security.as_str()),
        source.address = shows(Field::SourceAddress).then(|| text(source.address.as_ref())),
        source.workload = shows(Field::SourceWorkload).then(|| source.pod.as_deref().unwrap_or("-")),
        source.namespace = shows(Field::SourceNamespace).then(|| source.namespace.as_deref().unwrap_or("-")),
        source.identity = shows(Field::SourceIdentity).then(|| text(source.identity.as_ref())),
        destination.address = shows(Field::DestinationAddress).then(|| text(destination.address.as_ref())),
        destination.workload = shows(Field::DestinationWorkload).then(|| destination.pod.as_deref().unwrap_or("-")),
        destination.namespace = shows(Field::DestinationNamespace).then(|| destination.namespace.as_deref().unwrap_or("-")),
        destination.identity = shows(Field::DestinationIdentity).then(|| text(destination.identity.as_ref())),
        destination.service = shows(Field::DestinationService).then(|| text(connection.service.as_ref())),
        original_destination = shows(Field::OriginalDestination).then(|| text(connection.original_destination.as_ref())),
        request.method = shows(Field::RequestMethod).then(|| request.method.as_str()),
        request.path = shows(Field::RequestPath).then_some(request.path),
        request.authority = shows(Field::RequestAuthority).then_some(request.authority),
        request.route = shows(Field::RequestRoute).then(|| text(request.rule.map(|rule| &rule.route))),
        request.rule = shows(Field::RequestRule).then(|| request.rule.map_or("-", |rule| &rule.rule.name)),
        response.status = shows(Field::ResponseStatus).then(|| request.status.map(|status| status.as_u16())).flatten(),
        response.grpc_status = shows(Field::ResponseGrpcStatus).then_some(request.grpc_status).flatten(),
        attempts = shows(Field::Attempts).then_some(request.attempts),
        bytes_sent = shows(Field::BytesSent).then_some(request.sent),
        bytes_received = shows(Field::BytesReceived).then_some(request.received),
        duration_us = shows(Field::DurationUs).then(|| micros(request.duration)),
        flags = shows(Field::Flags).then(|| request.flag.as_str()),
        authorization_policy = shows(Field::AuthorizationPolicy).then(|| authorization.decided().map(|decided| tracing::field::display(&decided.policy))).flatten(),
        authorization_rule = shows(Field::AuthorizationRule).then(|| authorization.decided().and_then(|decided| decided.rule)).flatten(),
        authorization_audit = shows(Field::AuthorizationAudit).then(|| authorization.audited()).flatten(),
        authorization_dry_run = shows(Field::AuthorizationDryRun).then(|| authorization.dry_run()).flatten(),
        request.principal = shows(Field::RequestPrincipal).then(|| authorization.principal()).flatten(),
        request.refused_token = shows(Field::RequestRefusedToken).then(|| authorization.refused_token().map(tracing::field::display)).flatten(),
        "request"
    );
}

fn text(value: Option<&impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
