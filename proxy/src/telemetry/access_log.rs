//! One structured line for each connection and each request, with the target `access`.

use std::fmt::Display;
use std::time::Duration;

use super::authorization::AuthorizationNote;
use super::info::ConnectionInfo;
use super::outcome::{Outcome, RequestOutcome};
use super::progress::ByteCount;
use crate::component::Component;

/// Writes the line of a connection. `connect_time` is `None` when the destination was
/// never connected.
pub(crate) fn write_connection(
    component: Component,
    connection: &ConnectionInfo,
    authorization: &AuthorizationNote,
    outcome: &Outcome,
    bytes: ByteCount,
    connect_time: Option<Duration>,
    duration: Duration,
) {
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
        bytes_sent = bytes.sent,
        bytes_received = bytes.received,
        duration_us = micros(duration),
        connect_us = connect_time.map(micros),
        flags = outcome.flag.as_str(),
        authorization_policy = authorization.decided().map(|decided| tracing::field::display(&decided.policy)),
        authorization_rule = authorization.decided().and_then(|decided| decided.rule),
        authorization_audit = authorization.audited(),
        authorization_dry_run = authorization.dry_run(),
        error = outcome.error.as_deref(),
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
        "request"
    );
}

fn text(value: Option<&impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
