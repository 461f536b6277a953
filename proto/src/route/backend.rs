//! Targets of backends and mirrors on the wire.

use weft_model::route::BackendTarget;

use crate::route::error::InvalidRoute;
use crate::route::field::{namespaced_name, port_field};
use crate::v1;

/// The target of a backend or of a mirror.
pub(crate) fn backend_target(
    message: Option<v1::BackendTarget>,
) -> Result<BackendTarget, InvalidRoute> {
    const FIELD: &str = "target";
    match message.and_then(|message| message.target) {
        None => Err(InvalidRoute::Missing(FIELD)),
        Some(v1::backend_target::Target::Invalid(reason)) => Ok(BackendTarget::Invalid {
            reason: reason.into(),
        }),
        Some(v1::backend_target::Target::Service(message)) => Ok(BackendTarget::Service {
            service: namespaced_name(FIELD, &message.namespace, &message.name)?,
            port: port_field(FIELD, message.port)?,
        }),
    }
}

impl From<&BackendTarget> for v1::BackendTarget {
    fn from(target: &BackendTarget) -> Self {
        let target = match target {
            BackendTarget::Invalid { reason } => {
                v1::backend_target::Target::Invalid(reason.to_string())
            }
            BackendTarget::Service { service, port } => {
                v1::backend_target::Target::Service(v1::BackendService {
                    namespace: service.namespace.to_string(),
                    name: service.name.to_string(),
                    port: (*port).into(),
                })
            }
        };
        Self {
            target: Some(target),
        }
    }
}
