//! EndpointSlices: endpoints that somebody else computed.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::readiness::Readiness;

/// The label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A slice, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceObject {
    /// Namespace and name of its own.
    pub(crate) key: NamespacedName,
    /// The Service whose endpoints it lists.
    pub(crate) service: NamespacedName,
    /// Port name (as in the Service) and number on the endpoints.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

/// One address of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) readiness: Readiness,
    /// Name of the Pod behind it, in the Service's namespace.
    pub(crate) pod: Option<String>,
}

impl KindObject for SliceObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        versions: &["v1"],
        plural: "endpointslices",
        provider: Provider::Kubernetes,
        fallback: "",
    })];

    type Document = EndpointSlice;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    fn read(_: Kind, slice: EndpointSlice, form: Form) -> Read<Self> {
        match Self::parse(&slice) {
            // It asks nothing of the mesh.
            _ if form == Form::Admission => Read::nothing(),
            // Slices without a Service are somebody else's business.
            Err(error) if error.is_missing() && form == Form::Live => Read::nothing(),
            slice => slice.into(),
        }
    }
}

impl SliceObject {
    /// Names of the pods behind its endpoints.
    pub(crate) fn pods(&self) -> impl Iterator<Item = NamespacedName> {
        let named = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.pod.as_deref());
        named.map(|name| NamespacedName::new(&self.service.namespace, name))
    }

    fn parse(slice: &EndpointSlice) -> Result<Self, FieldError> {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let service = service.ok_or_else(|| {
            let field = format!("metadata.labels[{SERVICE_NAME}]");
            FieldError::missing(&field, "it names the Service that the slice belongs to")
        })?;
        let namespace = document::namespace(&slice.metadata);
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        Ok(Self {
            key: NamespacedName::new(namespace, name),
            service: NamespacedName::new(namespace, service),
            ports: ports(slice)?,
            endpoints: endpoints(slice)?,
        })
    }
}

fn ports(slice: &EndpointSlice) -> Result<Vec<(String, u16)>, FieldError> {
    let mut ports = Vec::new();
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let number = port.port.and_then(|port| u16::try_from(port).ok());
        let number = number.filter(|port| *port != 0).ok_or_else(|| {
            let message = "not a port between 1 and 65535";
            FieldError::new(format!("ports[{index}].port"), message)
        })?;
        ports.push((port.name.clone().unwrap_or_default(), number));
    }
    Ok(ports)
}

fn endpoints(slice: &EndpointSlice) -> Result<Vec<SliceEndpoint>, FieldError> {
    let mut endpoints = Vec::new();
    for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        // What is not said follows the API's text: `ready` is true, `serving` is as `ready`.
        let is_ready = conditions.ready.unwrap_or(true);
        let is_serving = conditions.serving.unwrap_or(is_ready);
        let is_terminating = conditions.terminating.unwrap_or(false);
        // As kube-proxy: what is said to be ready is, also on its way out.
        let readiness = match is_ready {
            true => Readiness::Ready,
            false => Readiness::new(is_serving && is_terminating, is_terminating),
        };
        let target = endpoint.target_ref.as_ref();
        let target = target.filter(|target| target.kind.as_deref() == Some("Pod"));
        for text in &endpoint.addresses {
            let address = text.parse::<IpAddr>().map(canonical_ip).map_err(|_| {
                let message = format!("`{text}` is not an IP address");
                FieldError::new(format!("endpoints[{index}].addresses"), message)
            })?;
            let pod = target.and_then(|target| target.name.clone());
            endpoints.push(SliceEndpoint {
                address,
                readiness,
                pod,
            });
        }
    }
    Ok(endpoints)
}
