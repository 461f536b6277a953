//! One structured line for each connection and each request, with the target `access`.

use std::fmt::Display;
use std::time::Duration;

use super::info::ConnectionInfo;
use super::outcome::{ConnectionOutcome, RequestOutcome};
use super::tcp::TcpReport;
use crate::component::Component;

/// Writes the line of a connection.
pub(crate) fn write_connection(
    component: Component,
    connection: &ConnectionInfo,
    ended: &ConnectionOutcome<'_>,
) {
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
        component = component.as_str(),
        direction = connection.direction.as_str(),
        path = connection.hop.as_str(),
        security = connection.security.as_str(),
        source.address = text(source.address.as_ref()),
        source.workload = source.pod.as_deref().unwrap_or("-"),
        source.namespace = source.namespace.as_deref().unwrap_or("-"),
        source.identity = text(source.identity.as_ref()),
        destination.address = text(destination.address.as_ref()),
        destination.workload = destination.pod.as_deref().unwrap_or("-"),
        destination.namespace = destination.namespace.as_deref().unwrap_or("-"),
        destination.identity = text(destination.identity.as_ref()),
        destination.service = text(connection.service.as_ref()),
        original_destination = text(connection.original_destination.as_ref()),
        bytes_sent = ended.bytes.sent,
        bytes_received = ended.bytes.received,
        duration_us = micros(ended.duration),
        connect_us = ended.connect_time.map(micros),
        flags = outcome.flag.as_str(),
        authorization_policy = authorization.decided().map(|decided| tracing::field::display(&decided.policy)),
        authorization_rule = authorization.decided().and_then(|decided| decided.rule),
        authorization_audit = authorization.audited(),
        authorization_dry_run = authorization.dry_run(),
        error = outcome.error.as_deref(),
        tcp.downstream.rtt_us = downstream.and_then(|tcp| tcp.smoothed_rtt).map(micros),
        tcp.downstream.retransmits = downstream.map(|tcp| tcp.retransmits),
        tcp.downstream.delivered_bytes = downstream.map(|tcp| tcp.delivered_bytes),
        tcp.upstream.rtt_us = upstream.and_then(|tcp| tcp.smoothed_rtt).map(micros),
        tcp.upstream.retransmits = upstream.map(|tcp| tcp.retransmits),
        tcp.upstream.delivered_bytes = upstream.map(|tcp| tcp.delivered_bytes),
        "connection"
    );
}

/// Writes the line of a request.
pub(crate) fn write_request(
    component: Component,
    connection: &ConnectionInfo,
    request: &RequestOutcome<'_>,
) {
    let authorization = request.authorization;
    let ConnectionInfo {
        source,
        destination,
        ..
    } = connection;
    tracing::info!(
        target: "access",
        component = component.as_str(),
        direction = connection.direction.as_str(),
        path = connection.hop.as_str(),
        security = connection.security.as_str(),
        source.address = text(source.address.as_ref()),
        source.workload = source.pod.as_deref().unwrap_or("-"),
        source.namespace = source.namespace.as_deref().unwrap_or("-"),
        source.identity = text(source.identity.as_ref()),
        destination.address = text(destination.address.as_ref()),
        destination.workload = destination.pod.as_deref().unwrap_or("-"),
        destination.namespace = destination.namespace.as_deref().unwrap_or("-"),
        destination.identity = text(destination.identity.as_ref()),
        destination.service = text(connection.service.as_ref()),
        original_destination = text(connection.original_destination.as_ref()),
        request.method = %request.method,
        request.path = request.path,
        request.authority = request.authority,
        request.route = text(request.rule.map(|rule| &rule.route)),
        request.rule = request.rule.map_or("-", |rule| &rule.rule.name),
        response.status = request.status.map(|status| status.as_u16()),
        response.grpc_status = request.grpc_status,
        attempts = request.attempts,
        bytes_sent = request.sent,
        bytes_received = request.received,
        duration_us = micros(request.duration),
        flags = request.flag.as_str(),
        authorization_policy = authorization.decided().map(|decided| tracing::field::display(&decided.policy)),
        authorization_rule = authorization.decided().and_then(|decided| decided.rule),
        authorization_audit = authorization.audited(),
        authorization_dry_run = authorization.dry_run(),
        request.principal = authorization.principal(),
        request.refused_token = authorization.refused_token().map(tracing::field::display),
        "request"
    );
}

fn text(value: Option<&impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
