//! Services.
//!
//! * [`exposure`]: where they are reached beside their own addresses

mod exposure;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Service as KubernetesService, ServicePort as KubernetesPort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::service::{Service, ServiceKind, ServicePort, TrafficDistribution};

use self::exposure::{Exposure, has_node_ports};
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::pod::PodObject;

/// `timeoutSeconds` of a Service that doesn't say, and the highest, as the API has them.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
const LONGEST_AFFINITY_SECONDS: u64 = 86_400;

/// The port of a pod that a service port leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TargetPort {
    Number(u16),
    /// A named container port.
    Name(String),
}

impl TargetPort {
    /// The number that it has on a pod; `None` where the pod has no port of that name.
    pub(crate) fn of_pod(&self, pod: &PodObject) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => {
                let mut named = pod.ports.iter();
                named
                    .find(|(known, _)| known == name)
                    .map(|(_, port)| *port)
            }
        }
    }
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
        fallback: LAST_GOOD,
    })];

    type Document = KubernetesService;

    fn name(&self) -> NamespacedName {
        self.service.key.clone()
    }

    fn read(_: Kind, service: KubernetesService, form: Form) -> Read<Self> {
        match form {
            // It has no address yet, and asks nothing of the mesh.
            Form::Admission => Read::nothing(),
            _ if document::is_of_another_proxy(&service.metadata) => Read::nothing(),
            Form::Manifest | Form::Live => match Self::parse(service) {
                Ok((service, problems)) => Read::with_problems(service, problems),
                Err(error) => Err(error).into(),
            },
        }
    }
}

impl ServiceObject {
    /// Its selector selects a pod of its namespace.
    pub(crate) fn selects(&self, pod: &PodObject) -> bool {
        let matches = |(name, value): (&String, &String)| pod.labels.get(name) == Some(value);
        !self.selector.is_empty() && self.selector.iter().all(matches)
    }

    /// The Service, without those external addresses that can't be used.
    fn parse(object: KubernetesService) -> Result<(Self, Vec<FieldError>), FieldError> {
        let spec = object
            .spec
            .ok_or_else(|| FieldError::missing("spec", "a Service has one"))?;
        let key = document::namespaced_name(&object.metadata)?;
        let mut ports = Vec::new();
        let mut targets = Vec::new();
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            if port.protocol.as_deref().unwrap_or("TCP") == "TCP" {
                let (port, target) = parse_port(index, port, has_node_ports(&spec))?;
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
        let exposure = Exposure::read(&object.metadata, &spec, object.status.as_ref());
        let session_affinity = session_affinity(&spec)?;
        let NamespacedName { namespace, name } = &key;
        let hostname = format!("{name}.{namespace}.svc.cluster.local").into();
        let service = Self {
            service: Service {
                key,
                hostname,
                kind,
                ports,
                is_node_local,
                session_affinity,
                traffic_distribution: traffic_distribution(&spec),
                external_addresses: exposure.addresses,
                created: document::created(&object.metadata),
            },
            selector: spec.selector.unwrap_or_default(),
            targets,
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        };
        Ok((service, exposure.problems))
    }
}

/// The endpoints that clients should get; those that this version doesn't know are all, as the
/// API wants it.
fn traffic_distribution(spec: &ServiceSpec) -> Option<TrafficDistribution> {
    match spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => Some(TrafficDistribution::PreferSameZone),
        "PreferSameNode" => Some(TrafficDistribution::PreferSameNode),
        _ => None,
    }
}

/// How long a client stays with its endpoint.
fn session_affinity(spec: &ServiceSpec) -> Result<Option<Duration>, FieldError> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return Ok(None);
    }
    let config = spec.session_affinity_config.as_ref();
    let client_ip = config.and_then(|config| config.client_ip.as_ref());
    let seconds = client_ip.and_then(|client_ip| client_ip.timeout_seconds);
    match u64::try_from(seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS)) {
        Ok(seconds @ 1..=LONGEST_AFFINITY_SECONDS) => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            let message = format!("not between 1 and {LONGEST_AFFINITY_SECONDS}");
            Err(FieldError::new(field, message))
        }
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
    has_node_port: bool,
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
    let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
    let parsed = ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        port: service_port,
        app_protocol: port.app_protocol.as_deref().unwrap_or_default().into(),
        node_port: node_port.filter(|port| has_node_port && *port != 0),
    };
    Ok((parsed, target))
}

#[cfg(test)]
mod tests;
