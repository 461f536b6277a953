//! From objects to resources.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use weft_model::mesh::Change;
use weft_model::policy::MtlsMode;
use weft_model::service::{Endpoint, EndpointKey, ServiceKey};
use weft_model::workload::{Enrolment, Workload, WorkloadUid};
use weft_model::{SpiffeId, TrustDomain};

use super::{Conflict, Named, Origin};
use crate::manifest::{
    MeshConfigObject, NamespaceObject, Object, PodObject, ServiceObject, SliceObject, TargetPort,
};

/// Trust domain of a mesh that names none, as everywhere in this field.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The objects by kind and name.
struct Sorted<'a> {
    pods: Vec<(&'a str, &'a PodObject)>,
    services: Vec<&'a ServiceObject>,
    slices: HashMap<&'a ServiceKey, Vec<&'a SliceObject>>,
    namespaces: HashMap<&'a str, &'a NamespaceObject>,
    mesh_config: Option<&'a MeshConfigObject>,
}

/// Everything that the mesh consists of, in an order in which no resource comes
/// before what it refers to.
pub(super) fn resources(
    objects: &BTreeMap<Origin, Vec<Object>>,
    captured: &HashSet<WorkloadUid>,
) -> (Vec<Change>, Vec<Conflict>) {
    let mut conflicts = Vec::new();
    let sorted = sort(objects, &mut conflicts);
    let workloads = workloads(&sorted, captured, &mut conflicts);
    let known: HashMap<_, _> = sorted
        .pods
        .iter()
        .map(|(_, pod)| (&pod.key, *pod))
        .collect();
    let listed: HashSet<_> = workloads.iter().map(|workload| &workload.uid).collect();
    let mut endpoints = BTreeMap::new();
    for service in &sorted.services {
        match sorted.slices.get(&service.service.key) {
            Some(slices) => from_slices(service, slices, &known, &listed, &mut endpoints),
            None => from_selector(service, &sorted.pods, &listed, &mut endpoints),
        }
    }
    let services = sorted
        .services
        .iter()
        .map(|object| Change::Service(object.service.clone()));
    let endpoints: Vec<_> = endpoints.into_values().map(Change::Endpoint).collect();
    let workloads: Vec<_> = workloads.into_iter().map(Change::Workload).collect();
    (
        workloads
            .into_iter()
            .chain(services)
            .chain(endpoints)
            .collect(),
        conflicts,
    )
}

fn sort<'a>(
    objects: &'a BTreeMap<Origin, Vec<Object>>,
    conflicts: &mut Vec<Conflict>,
) -> Sorted<'a> {
    let mut pods = Named::new("Pod");
    let mut services = Named::new("Service");
    let mut namespaces = Named::new("Namespace");
    let mut configs = Named::new("MeshConfig");
    let mut slices = HashMap::<_, Vec<_>>::new();
    for (origin, objects) in objects {
        for object in objects {
            match object {
                Object::Pod(pod) => pods.insert(pod.key.clone(), origin, pod, conflicts),
                Object::Service(object) => {
                    services.insert(object.service.key.clone(), origin, object, conflicts);
                }
                Object::Namespace(namespace) => {
                    let key = ServiceKey::new("", &namespace.name);
                    namespaces.insert(key, origin, namespace, conflicts);
                }
                Object::MeshConfig(config) => {
                    configs.insert(ServiceKey::new("", "default"), origin, config, conflicts);
                }
                Object::EndpointSlice(slice) => {
                    slices.entry(&slice.service).or_default().push(slice);
                }
            }
        }
    }
    let mut pods: Vec<_> = pods.by_name.into_values().collect();
    pods.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
    let mut services: Vec<_> = services
        .by_name
        .into_values()
        .map(|(_, service)| service)
        .collect();
    services.sort_by(|a, b| a.service.key.cmp(&b.service.key));
    let namespaces = namespaces.by_name.into_values();
    Sorted {
        pods,
        services,
        slices,
        namespaces: namespaces
            .map(|(_, namespace)| (namespace.name.as_str(), namespace))
            .collect(),
        mesh_config: configs
            .by_name
            .into_values()
            .next()
            .map(|(_, config)| config),
    }
}

fn workloads(
    sorted: &Sorted<'_>,
    captured: &HashSet<WorkloadUid>,
    conflicts: &mut Vec<Conflict>,
) -> Vec<Workload> {
    let trust_domain = sorted
        .mesh_config
        .and_then(|config| config.trust_domain.clone());
    // invariant: the constant is a trust domain; falling back to nothing would lose all pods.
    let trust_domain = trust_domain.or_else(|| DEFAULT_TRUST_DOMAIN.parse().ok());
    let Some(trust_domain) = trust_domain else {
        return Vec::new();
    };
    let mut owners = HashMap::<IpAddr, &ServiceKey>::new();
    let mut workloads = Vec::new();
    for (origin, pod) in sorted.pods.iter().filter(|(_, pod)| !pod.ended) {
        let origin = (*origin).to_owned();
        // Pods of the host network share their node's address; they are never captured.
        let taken = pod
            .addresses
            .iter()
            .find_map(|address| Some((address, *owners.get(address)?)));
        if let Some((address, first)) = taken.filter(|_| !pod.host_network) {
            let (address, first) = (address.to_string(), first.clone());
            conflicts.push(Conflict::Address {
                pod: pod.key.clone(),
                origin,
                address,
                first,
            });
            continue;
        }
        match workload(pod, &trust_domain, sorted, captured) {
            Ok(workload) => {
                if !pod.host_network {
                    owners.extend(pod.addresses.iter().map(|address| (*address, &pod.key)));
                    workloads.push(workload);
                }
            }
            Err(error) => {
                conflicts.push(Conflict::Identity {
                    pod: pod.key.clone(),
                    origin,
                    error,
                });
            }
        }
    }
    workloads
}

fn workload(
    pod: &PodObject,
    trust_domain: &TrustDomain,
    sorted: &Sorted<'_>,
    captured: &HashSet<WorkloadUid>,
) -> Result<Workload, weft_model::identity::InvalidIdentity> {
    let namespace = sorted.namespaces.get(&*pod.key.namespace);
    let opted_in = pod
        .mesh
        .or_else(|| namespace.and_then(|namespace| namespace.mesh));
    let enrolment = match opted_in.unwrap_or(false) && !pod.host_network {
        false => Enrolment::Outside,
        true if captured.contains(&pod.uid) => Enrolment::Captured,
        true => Enrolment::Pending,
    };
    let mtls_mode = pod
        .mtls_mode
        .or_else(|| namespace.and_then(|namespace| namespace.mtls_mode))
        .or_else(|| sorted.mesh_config.and_then(|config| config.mtls_mode))
        .unwrap_or(MtlsMode::Permissive);
    let namespace = &pod.key.namespace;
    Ok(Workload {
        uid: pod.uid.clone(),
        name: pod.key.name.clone(),
        identity: SpiffeId::new(trust_domain.clone(), namespace, &pod.service_account)?,
        addresses: pod.addresses.clone(),
        node: pod.node.as_str().into(),
        enrolment,
        mtls_mode,
        exclusions: pod.exclusions.clone(),
        network_namespace: pod.network_namespace.as_str().into(),
        labels: pod.names.clone(),
    })
}

/// The endpoints of a Service by its selector, as Kubernetes' endpoint controller
/// would list them.
fn from_selector(
    object: &ServiceObject,
    pods: &[(&str, &PodObject)],
    listed: &HashSet<&WorkloadUid>,
    endpoints: &mut BTreeMap<EndpointKey, Endpoint>,
) {
    let selected = pods.iter().map(|(_, pod)| *pod).filter(|pod| {
        let matches = |(name, value): (&String, &String)| pod.labels.get(name) == Some(value);
        let same_namespace = pod.key.namespace == object.service.key.namespace;
        !object.selector.is_empty() && same_namespace && object.selector.iter().all(matches)
    });
    for pod in selected.filter(|pod| listed.contains(&pod.uid)) {
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
                key.clone(),
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

fn from_slices(
    object: &ServiceObject,
    slices: &[&SliceObject],
    pods: &HashMap<&ServiceKey, &PodObject>,
    listed: &HashSet<&WorkloadUid>,
    endpoints: &mut BTreeMap<EndpointKey, Endpoint>,
) {
    let service = &object.service;
    for slice in slices {
        let target = |name: &str| {
            slice
                .ports
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, port)| *port)
        };
        let ports = service
            .ports
            .iter()
            .filter_map(|port| Some((port.port, target(&port.name)?)));
        let ports: Vec<_> = ports.collect();
        for endpoint in &slice.endpoints {
            let key = EndpointKey {
                service: service.key.clone(),
                address: endpoint.address,
            };
            let pod = endpoint.pod.as_ref().and_then(|name| {
                pods.get(&ServiceKey::new(&service.key.namespace, name))
                    .copied()
            });
            let workload = pod
                .map(|pod| pod.uid.clone())
                .filter(|uid| listed.contains(uid));
            let ready = endpoint.ready || object.publish_not_ready;
            let entry = endpoints.entry(key.clone());
            let entry = entry.or_insert(Endpoint {
                key,
                workload,
                ports: Vec::new(),
                ready,
            });
            entry.ports.extend(
                ports
                    .iter()
                    .filter(|(port, _)| !entry.ports.iter().any(|(known, _)| known == port))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
    }
}
