//! From objects to one workload, or to the endpoints of one service. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::identity::InvalidIdentity;
use weft_model::mtls::MtlsMode;
use weft_model::service::{Endpoint, EndpointKey};
use weft_model::workload::{Enrolment, Workload};
use weft_model::{NamespacedName, SpiffeId, TrustDomain};

use super::CapturedPods;
use super::objects::Objects;
use crate::manifest::{PodObject, ServiceObject, SliceObject, TargetPort};

/// Trust domain of a mesh that names none, as everywhere in this field.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// A service's endpoints by address.
type Endpoints = BTreeMap<IpAddr, Endpoint>;

/// The workload that a pod is.
///
/// # Errors
/// When namespace or service account can't be part of an identity.
pub(super) fn workload(
    pod: &PodObject,
    objects: &Objects,
    captured: &CapturedPods,
) -> Result<Workload, InvalidIdentity> {
    let config = objects.mesh_config();
    let trust_domain = match config.and_then(|config| config.trust_domain.clone()) {
        Some(trust_domain) => trust_domain,
        None => DEFAULT_TRUST_DOMAIN.parse::<TrustDomain>()?,
    };
    let namespace = NamespacedName::new("", &pod.key.namespace);
    let namespace = objects.namespaces.get(&namespace);
    let node = objects.nodes.get(&NamespacedName::new("", &pod.node));
    let opted_in = pod
        .mesh
        .or_else(|| namespace.and_then(|namespace| namespace.mesh));
    let reported = captured.get(&pod.uid);
    let is_captured = pod.captured || reported.is_some_and(|node| **node == *pod.node);
    let enrolment = match opted_in.unwrap_or(false) && !pod.host_network {
        false => Enrolment::Outside,
        true if is_captured => Enrolment::Captured,
        true => Enrolment::Pending,
    };
    let mtls_mode = pod
        .mtls_mode
        .or_else(|| namespace.and_then(|namespace| namespace.mtls_mode))
        .or_else(|| config.and_then(|config| config.mtls_mode))
        .unwrap_or(MtlsMode::Permissive);
    let egress_mode = namespace
        .and_then(|namespace| namespace.egress_mode)
        .or_else(|| config.and_then(|config| config.egress_mode))
        .unwrap_or_default();
    Ok(Workload {
        uid: pod.uid.clone(),
        name: pod.key.name.clone(),
        identity: SpiffeId::new(trust_domain, &pod.key.namespace, &pod.service_account)?,
        addresses: pod.addresses.clone(),
        node: pod.node.as_str().into(),
        locality: node.map(|node| node.locality.clone()).unwrap_or_default(),
        enrolment,
        mtls_mode,
        egress_mode,
        exclusions: pod.exclusions.clone(),
        network_namespace: pod.network_namespace.as_str().into(),
        labels: pod.names.clone(),
    })
}

/// The endpoints of a service: those of its slices; of its selector where it has no
/// slices, as in a directory. `listed` says which pods agents know.
pub(super) fn endpoints(
    service: &NamespacedName,
    objects: &Objects,
    listed: impl Fn(&PodObject) -> bool,
) -> Endpoints {
    let mut endpoints = Endpoints::new();
    let Some(service) = objects.services.get(service) else {
        return endpoints;
    };
    let slices = objects.slices_of.of(&service.service.key);
    let mut slices = slices
        .filter_map(|name| objects.slices.get(name))
        .peekable();
    if slices.peek().is_some() {
        for slice in slices {
            from_slice(service, slice, objects, &listed, &mut endpoints);
        }
    } else {
        from_selector(service, objects, &listed, &mut endpoints);
    }
    endpoints
}

/// The endpoints of a Service by its selector, as Kubernetes' endpoint controller
/// would list them.
fn from_selector(
    object: &ServiceObject,
    objects: &Objects,
    listed: &impl Fn(&PodObject) -> bool,
    endpoints: &mut Endpoints,
) {
    if object.selector.is_empty() {
        return;
    }
    let pods = objects.pods.in_namespace(&object.service.key.namespace);
    let selected = pods.map(|(_, pod)| pod).filter(|pod| {
        let matches = |(name, value): (&String, &String)| pod.labels.get(name) == Some(value);
        object.selector.iter().all(matches)
    });
    for pod in selected.filter(|pod| listed(pod)) {
        let ports = object.targets.iter().filter_map(|(port, target)| {
            let target = match target {
                TargetPort::Number(number) => *number,
                TargetPort::Name(name) => pod.ports.iter().find(|(n, _)| n == name)?.1,
            };
            Some((*port, target))
        });
        let ports: Vec<_> = ports.collect();
        let ready = pod.ready || object.publish_not_ready;
        for address in &pod.addresses {
            let key = EndpointKey {
                service: object.service.key.clone(),
                address: *address,
            };
            let workload = Some(pod.uid.clone());
            endpoints.insert(
                *address,
                Endpoint {
                    key,
                    workload,
                    ports: ports.clone(),
                    ready,
                },
            );
        }
    }
}

fn from_slice(
    object: &ServiceObject,
    slice: &SliceObject,
    objects: &Objects,
    listed: &impl Fn(&PodObject) -> bool,
    endpoints: &mut Endpoints,
) {
    let service = &object.service;
    let target = |name: &str| {
        let port = slice.ports.iter().find(|(n, _)| n == name);
        port.map(|(_, port)| *port)
    };
    let ports = service.ports.iter();
    let ports = ports.filter_map(|port| Some((port.port, target(&port.name)?)));
    let ports: Vec<_> = ports.collect();
    for endpoint in &slice.endpoints {
        let pod = endpoint.pod.as_ref().and_then(|name| {
            let name = NamespacedName::new(&service.key.namespace, name);
            objects.pods.get(&name)
        });
        let workload = pod.filter(|pod| listed(pod)).map(|pod| pod.uid.clone());
        let ready = endpoint.ready || object.publish_not_ready;
        let entry = endpoints
            .entry(endpoint.address)
            .or_insert_with(|| Endpoint {
                key: EndpointKey {
                    service: service.key.clone(),
                    address: endpoint.address,
                },
                workload,
                ports: Vec::new(),
                ready,
            });
        for (port, target) in &ports {
            if entry.target_port(*port).is_none() {
                entry.ports.push((*port, *target));
            }
        }
    }
}
