//! Idle limits, of workloads and of Services.

use std::time::Duration;

use weft_model::idle::{IdleLimits, ServiceIdleLimits};

use crate::v1;

impl From<v1::IdleLimits> for IdleLimits {
    fn from(message: v1::IdleLimits) -> Self {
        Self {
            open: message.open_ms.map(Duration::from_millis),
            half_closed: message.half_closed_ms.map(Duration::from_millis),
        }
    }
}

/// The message, where any limit is set.
pub(crate) fn message(limits: IdleLimits) -> Option<v1::IdleLimits> {
    let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    (limits != IdleLimits::default()).then(|| v1::IdleLimits {
        open_ms: limits.open.map(millis),
        half_closed_ms: limits.half_closed.map(millis),
    })
}

/// The limits of a Service; a port that is none has none.
pub(crate) fn of_service(
    all: Option<v1::IdleLimits>,
    ports: Vec<v1::PortIdleLimits>,
) -> ServiceIdleLimits {
    let ports = ports.into_iter().filter_map(|of_port| {
        let port = u16::try_from(of_port.port).ok()?;
        Some((port, of_port.idle_limits.unwrap_or_default().into()))
    });
    ServiceIdleLimits {
        all: all.unwrap_or_default().into(),
        ports: ports.collect(),
    }
}

/// The messages of a Service's ports.
pub(crate) fn port_messages(limits: &ServiceIdleLimits) -> Vec<v1::PortIdleLimits> {
    let ports = limits
        .ports
        .iter()
        .map(|(port, limits)| v1::PortIdleLimits {
            port: u32::from(*port),
            idle_limits: message(*limits),
        });
    ports.collect()
}
