//! The record of a connection that went nowhere.

use std::sync::Arc;

use super::connect::ConnectFailure;
use super::connection::OutboundConnection;
use super::plan::Plan;
use crate::telemetry::ConnectionRecord;

/// Records that a connection went nowhere.
pub(super) fn record_failure(
    connection: &OutboundConnection,
    plan: Option<&Plan>,
    failure: &ConnectFailure,
) {
    let service = plan.and_then(|plan| plan.destination.service.as_deref());
    let info = connection.info(failure.candidate.as_ref(), service);
    // Whoever it was meant for, nobody has proven to be it.
    let info = info.without_proof();
    let (telemetry, began) = (&connection.pod.telemetry, connection.began);
    let record = ConnectionRecord::start(telemetry, Arc::new(info), began);
    record.fail(failure.error.flag(), &failure.error);
}
