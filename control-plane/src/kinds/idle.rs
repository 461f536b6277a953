//! Idle limits as objects write them: in a MeshConfig, a TrafficPolicy, or annotations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_model::idle::{IdleLimits, ServiceIdleLimits};

use super::duration::Span;
use super::field_error::FieldError;

/// How long connections may be silent before they are ended. `0s` is no limit; what is left out
/// is decided by what is further away: a Service's port, the Service, the pod, its namespace,
/// the mesh.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IdleSpec {
    /// While both directions are open: no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout: Option<Span>,
    /// Once one direction has ended: `1h` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) half_closed_timeout: Option<Span>,
}

/// How long connections to a Service may be silent before they are ended. `0s` is no limit; what
/// is left out is decided by the pod at either end, its namespace, or the mesh.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceIdleSpec {
    /// While both directions are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout: Option<Span>,
    /// Once one direction has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) half_closed_timeout: Option<Span>,
    /// Ports for which something else holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub(crate) ports: Vec<PortIdleSpec>,
}

/// The same for one port of the Service.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortIdleSpec {
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) port: u16,
    /// While both directions are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout: Option<Span>,
    /// Once one direction has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) half_closed_timeout: Option<Span>,
}

impl IdleSpec {
    /// The limits, of a field of that path.
    ///
    /// # Errors
    /// When a time is none.
    pub(super) fn limits(&self, path: &str) -> Result<IdleLimits, FieldError> {
        let limit = |name: &str, span: &Option<Span>| {
            let duration = span.as_ref().map(Span::duration).transpose();
            duration.map_err(|error| FieldError::new(format!("{path}.{name}"), error))
        };
        Ok(IdleLimits {
            open: limit("idleTimeout", &self.idle_timeout)?,
            half_closed: limit("halfClosedTimeout", &self.half_closed_timeout)?,
        })
    }
}

impl ServiceIdleSpec {
    /// The limits, of a field of that path.
    ///
    /// # Errors
    /// When a time is none, or a port is named twice.
    pub(super) fn limits(self, path: &str) -> Result<ServiceIdleLimits, FieldError> {
        let all = IdleSpec {
            idle_timeout: self.idle_timeout,
            half_closed_timeout: self.half_closed_timeout,
        };
        let mut ports = Vec::<(u16, IdleLimits)>::new();
        for (index, of_port) in self.ports.into_iter().enumerate() {
            let path = format!("{path}.ports[{index}]");
            if ports.iter().any(|(port, _)| *port == of_port.port) {
                let message = format!("{} has limits already", of_port.port);
                return Err(FieldError::new(format!("{path}.port"), message));
            }
            let spec = IdleSpec {
                idle_timeout: of_port.idle_timeout,
                half_closed_timeout: of_port.half_closed_timeout,
            };
            ports.push((of_port.port, spec.limits(&path)?));
        }
        Ok(ServiceIdleLimits {
            all: all.limits(path)?,
            ports,
        })
    }
}
