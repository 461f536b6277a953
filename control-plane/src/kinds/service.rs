//! Services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service as KubernetesService, ServicePort as KubernetesPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::service::{Service, ServiceKind, ServicePort};

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};

/// The port of a pod that a service port leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TargetPort {
    Number(u16),
    /// A named container port.
    Name(String),
}

/// A Service, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceObject {
    pub(crate) service: Service,
    /// Labels that its pods have; empty when endpoints come from EndpointSlices.
    pub(crate) selector: BTreeMap<String, String>,
    /// Service port and target, in the order of `service.ports`.
    pub(crate) targets: Vec<(u16, TargetPort)>,
    pub(crate) publish_not_ready: bool,
}

impl KindObject for ServiceObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "Service",
        group: "",
        versions: &["v1"],
        plural: "services",
        provider: Provider::Kubernetes,
        fallback: "",
    })];

    type Document = KubernetesService;

    fn name(&self) -> NamespacedName {
        self.service.key.clone()
    }

    fn read(_: Kind, service: KubernetesService, form: Form) -> Read<Self> {
        match form {
            // It has no address yet, and asks nothing of the mesh.
            Form::Admission => Read::nothing(),
            Form::Manifest | Form::Live => Self::parse(service).into(),
        }
    }
}

impl ServiceObject {
    fn parse(object: KubernetesService) -> Result<Self, FieldError> {
        let spec = object
            .spec
            .ok_or_else(|| FieldError::missing("spec", "a Service has one"))?;
        let key = document::namespaced_name(&object.metadata)?;
        let mut ports = Vec::new();
        let mut targets = Vec::new();
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            if port.protocol.as_deref().unwrap_or("TCP") == "TCP" {
                let (port, target) = parse_port(index, port)?;
                targets.push((port.port, target));
                ports.push(port);
            }
        }
        let kind = match spec.type_.as_deref() {
            Some("ExternalName") => {
                let why = "a Service of type ExternalName names a host";
                let host = spec
                    .external_name
                    .as_deref()
                    .filter(|host| !host.is_empty());
                let host = host.ok_or_else(|| FieldError::missing("spec.externalName", why))?;
                ServiceKind::External(host.into())
            }
            _ => cluster_ip(spec.cluster_ip.as_deref(), spec.cluster_ips.as_deref())?,
        };
        let is_node_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let NamespacedName { namespace, name } = &key;
        let hostname = format!("{name}.{namespace}.svc.cluster.local").into();
        Ok(Self {
            service: Service {
                key,
                hostname,
                kind,
                ports,
                is_node_local,
            },
            selector: spec.selector.unwrap_or_default(),
            targets,
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        })
    }
}

fn cluster_ip(single: Option<&str>, list: Option<&[String]>) -> Result<ServiceKind, FieldError> {
    let listed = list.unwrap_or_default().iter().map(String::as_str);
    let mut texts: Vec<&str> = listed.collect();
    let field = if texts.is_empty() {
        "spec.clusterIP"
    } else {
        "spec.clusterIPs"
    };
    if texts.is_empty() {
        texts.extend(single.filter(|text| !text.is_empty()));
    }
    match texts.as_slice() {
        [] => {
            let why =
                "a directory allocates none; give an address, or `None` for a headless Service";
            Err(FieldError::missing("spec.clusterIP", why))
        }
        ["None"] => Ok(ServiceKind::Headless),
        texts => {
            let parsed = texts.iter().map(|text| {
                let address = text.parse::<IpAddr>().map(canonical_ip);
                address
                    .map_err(|_| FieldError::new(field, format!("`{text}` is not an IP address")))
            });
            Ok(ServiceKind::ClusterIp(parsed.collect::<Result<_, _>>()?))
        }
    }
}

fn parse_port(
    index: usize,
    port: &KubernetesPort,
) -> Result<(ServicePort, TargetPort), FieldError> {
    let number = |field: &str, number: i32| {
        let checked = u16::try_from(number).ok().filter(|port| *port != 0);
        checked.ok_or_else(|| {
            let message = format!("{number} is not a port between 1 and 65535");
            FieldError::new(format!("spec.ports[{index}].{field}"), message)
        })
    };
    let service_port = number("port", port.port)?;
    let target = match &port.target_port {
        None => TargetPort::Number(service_port),
        Some(IntOrString::Int(target)) => TargetPort::Number(number("targetPort", *target)?),
        Some(IntOrString::String(name)) => TargetPort::Name(name.clone()),
    };
    let parsed = ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        port: service_port,
        app_protocol: port.app_protocol.as_deref().unwrap_or_default().into(),
    };
    Ok((parsed, target))
}

#[cfg(test)]
mod tests;
