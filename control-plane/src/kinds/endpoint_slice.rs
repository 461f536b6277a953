//! EndpointSlices: endpoints that somebody else computed.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::service::TopologyHints;

use super::address::is_special;
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::pod::PodObject;
use super::readiness::Readiness;

/// The label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The label of slices of headless Services, which kube-proxy passes over.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The type of addresses that are none.
const FQDN: &str = "FQDN";

/// A slice, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceObject {
    /// Namespace and name of its own.
    pub(crate) key: NamespacedName,
    /// The Service whose endpoints it lists.
    pub(crate) service: NamespacedName,
    /// It is of a Service without addresses of its own. One that has them isn't served by it.
    pub(crate) is_headless: bool,
    /// Port name (as in the Service) and number on the endpoints.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

/// One address of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) readiness: Readiness,
    /// The Pod behind it, where that is one of the Service's namespace: a slice says nothing about
    /// pods of another one.
    pub(crate) pod: Option<Target>,
    /// Name of the node that it is on; empty where it doesn't say.
    pub(crate) node: String,
    pub(crate) hints: TopologyHints,
}

/// A Pod of the Service's namespace that an endpoint is said to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Tells it apart from others of its name; manifests written by hand leave it out.
    uid: Option<String>,
}

impl KindObject for SliceObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        versions: &["v1"],
        plural: "endpointslices",
        provider: Provider::Kubernetes,
        fallback: LAST_GOOD,
    })];

    type Document = EndpointSlice;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    fn read(_: Kind, slice: EndpointSlice, form: Form) -> Read<Self> {
        // It asks nothing of the mesh, nor do names that somebody would have to look up: as
        // kube-proxy.
        if form == Form::Admission || slice.address_type == FQDN {
            return Read::nothing();
        }
        if document::is_of_another_proxy(&slice.metadata) {
            return Read::nothing();
        }
        match Self::parse(&slice) {
            // Slices without a Service are somebody else's business.
            Err(error) if error.is_missing() && form == Form::Live => Read::nothing(),
            Err(error) => Err(error).into(),
            Ok((slice, problems)) => Read::with_problems(slice, problems),
        }
    }
}

impl SliceObject {
    /// Names of the pods behind its endpoints.
    pub(crate) fn pods(&self) -> impl Iterator<Item = NamespacedName> {
        let named = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.pod.as_ref());
        named.map(|pod| NamespacedName::new(&self.service.namespace, &pod.name))
    }

    /// The slice, without what of it can't be used.
    fn parse(slice: &EndpointSlice) -> Result<(Self, Vec<FieldError>), FieldError> {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let service = service.ok_or_else(|| {
            let field = format!("metadata.labels[{SERVICE_NAME}]");
            FieldError::missing(&field, "it names the Service that the slice belongs to")
        })?;
        let namespace = document::namespace(&slice.metadata);
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let mut problems = Vec::new();
        let slice = Self {
            key: NamespacedName::new(namespace, name),
            service: NamespacedName::new(namespace, service),
            is_headless: document::has_label(&slice.metadata, HEADLESS),
            ports: ports(slice, &mut problems),
            endpoints: endpoints(slice, namespace, &mut problems),
        };
        Ok((slice, problems))
    }
}

/// The ports for TCP. One without a number means all ports, of which kube-proxy serves none.
fn ports(slice: &EndpointSlice, problems: &mut Vec<FieldError>) -> Vec<(String, u16)> {
    let mut ports = Vec::new();
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let Some(number) = port.port else {
            continue;
        };
        match u16::try_from(number) {
            Ok(number @ 1..) => ports.push((port.name.clone().unwrap_or_default(), number)),
            _ => {
                let message = format!("{number} is not a port between 1 and 65535");
                problems.push(FieldError::new(format!("ports[{index}].port"), message));
            }
        }
    }
    ports
}

fn endpoints(
    slice: &EndpointSlice,
    namespace: &str,
    problems: &mut Vec<FieldError>,
) -> Vec<SliceEndpoint> {
    let mut endpoints = Vec::new();
    for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        for text in &endpoint.addresses {
            match address(text) {
                Ok(address) => endpoints.push(SliceEndpoint::new(address, endpoint, namespace)),
                Err(message) => {
                    let field = format!("endpoints[{index}].addresses");
                    problems.push(FieldError::new(field, message));
                }
            }
        }
    }
    endpoints
}

/// The canonical address, or what is wrong with it. The API server refuses special ones, a
/// directory has nobody else who does.
fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>().map(canonical_ip) {
        Ok(address) if is_special(address) => {
            Err(format!("`{text}` is no address of anybody's own"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!("`{text}` is not an IP address")),
    }
}

impl Target {
    fn read(target: &ObjectReference, namespace: &str) -> Option<Self> {
        let of = target.namespace.as_deref();
        if of.is_some_and(|of| !of.is_empty() && of != namespace) {
            return None;
        }
        Some(Self {
            name: target.name.clone()?,
            uid: target.uid.clone().filter(|uid| !uid.is_empty()),
        })
    }

    /// Whether an address of an endpoint that is said to be this pod is the pod's. Others than the
    /// mesh knows are those of networks that it doesn't capture. A slice may be ahead of its pod,
    /// or behind: one that has no address yet, or another UID, may well be there.
    pub(crate) fn may_be_at(&self, pod: &PodObject, address: IpAddr) -> bool {
        let is_other = |uid: &String| uid.as_str() != pod.uid.as_str();
        pod.addresses.is_empty()
            || pod.addresses.contains(&address)
            || self.uid.as_ref().is_some_and(is_other)
    }
}

impl SliceEndpoint {
    fn new(address: IpAddr, endpoint: &Endpoint, namespace: &str) -> Self {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        // What is not said follows the API's text: `ready` is true, `serving` is as `ready`.
        let is_ready = conditions.ready.unwrap_or(true);
        let is_serving = conditions.serving.unwrap_or(is_ready);
        let is_terminating = conditions.terminating.unwrap_or(false);
        let target = endpoint.target_ref.as_ref();
        let target = target.filter(|target| target.kind.as_deref() == Some("Pod"));
        Self {
            address,
            // As kube-proxy: what is said to be ready is, also on its way out.
            readiness: match is_ready {
                true => Readiness::Ready,
                false => Readiness::new(is_serving && is_terminating, is_terminating),
            },
            pod: target.and_then(|target| Target::read(target, namespace)),
            node: endpoint.node_name.clone().unwrap_or_default(),
            hints: hints(endpoint),
        }
    }
}

fn hints(endpoint: &Endpoint) -> TopologyHints {
    let hints = endpoint.hints.clone().unwrap_or_default();
    let zones = hints.for_zones.into_iter().flatten();
    let nodes = hints.for_nodes.into_iter().flatten();
    TopologyHints {
        zones: zones.map(|zone| zone.name.into()).collect(),
        nodes: nodes.map(|node| node.name.into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(slice: &str) -> Read<SliceObject> {
        let head = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
            metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }\n";
        let slice = serde_saphyr::from_str(&format!("{head}{slice}")).unwrap();
        SliceObject::read(SliceObject::KIND, slice, Form::Live)
    }

    #[test]
    fn what_is_wrong_in_a_slice_costs_no_more_than_itself() {
        let read = read(
            "addressType: IPv4\n\
             ports: [{ name: a, port: 0 }, { name: b, port: 80 }]\n\
             endpoints: [{ addresses: [nowhere] }, { addresses: [192.0.2.1] }]",
        );
        let slice = read.object.unwrap();
        assert_eq!(slice.ports, [("b".to_owned(), 80)]);
        assert_eq!(slice.endpoints.len(), 1);
        let problems: Vec<_> = read.problems.iter().map(ToString::to_string).collect();
        let expected = [
            "field ports[0].port: 0 is not a port between 1 and 65535",
            "field endpoints[0].addresses: `nowhere` is not an IP address",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn an_address_that_is_beside_whoever_dials_it_is_no_endpoint() {
        let special = [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ];
        for special in special {
            let read = read(&format!(
                "addressType: IPv4\nports: [{{ port: 80 }}]\n\
                 endpoints: [{{ addresses: ['{special}'] }}, {{ addresses: [192.0.2.1] }}]"
            ));
            let [endpoint] = &read.object.unwrap().endpoints[..] else {
                panic!("{special}")
            };
            assert_eq!(endpoint.address, IpAddr::from([192, 0, 2, 1]));
            let [problem] = &read.problems[..] else {
                panic!("{special}")
            };
            let expected =
                format!("field endpoints[0].addresses: `{special}` is no address of anybody's own");
            assert_eq!(problem.to_string(), expected);
        }
    }

    #[test]
    fn everything_that_a_slice_may_leave_out_it_may_leave_out() {
        let all = read(
            "addressType: IPv6\n\
             ports: [{ port: 8080 }, { name: all, port: null }, { name: dns, port: 53, protocol: UDP }]\n\
             endpoints: [{ addresses: ['fd00::1'], conditions: null, nodeName: node-1,\n\
               hints: { forZones: [{ name: a }, { name: b }], forNodes: [{ name: node-1 }] } }]",
        );
        assert!(all.problems.is_empty());
        let slice = all.object.unwrap();
        assert_eq!(slice.ports, [(String::new(), 8080)]);
        let [endpoint] = &slice.endpoints[..] else {
            panic!("{:?}", slice.endpoints)
        };
        assert_eq!(endpoint.readiness, Readiness::Ready);
        assert_eq!((&*endpoint.node, &endpoint.pod), ("node-1", &None));
        let hints = TopologyHints {
            zones: vec!["a".into(), "b".into()],
            nodes: vec!["node-1".into()],
        };
        assert_eq!(endpoint.hints, hints);
        let empty = read("addressType: IPv4\nports: null\nendpoints: []").object;
        assert!(empty.unwrap().endpoints.is_empty());
    }

    #[test]
    fn names_of_hosts_are_passed_over() {
        let read = read(
            "addressType: FQDN\nports: [{ port: 80 }]\nendpoints: [{ addresses: [db.example] }]",
        );
        assert_eq!(read, Read::nothing());
    }
}
