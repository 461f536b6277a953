//! Services and their endpoints.

use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::service::{Endpoint, EndpointKey, Service, ServiceKind};

use super::changes::Changes;
use super::objects::{Names, Objects};
use super::published::{Published, Resource};
use crate::kinds::{PodObject, Readiness, ServiceObject, SliceObject};

/// A service's endpoints by address.
type Endpoints = BTreeMap<IpAddr, Endpoint>;

/// The same, before it is decided which of them take connections.
type FoundEndpoints = BTreeMap<IpAddr, FoundEndpoint>;

/// An endpoint as slices or pods say it is.
struct FoundEndpoint {
    /// Without its ports.
    endpoint: Endpoint,
    /// The best of all that is said of its address.
    readiness: Readiness,
    /// Pairs of service port and target port, each as good as the best that is said of it: ports
    /// of one address may belong to several pods, as in the host's network.
    ports: BTreeMap<(u16, u16), Readiness>,
}

/// The Services and endpoints that agents have, and those that may be others by now.
#[derive(Debug, Default)]
pub(super) struct Services {
    dirty: Names,
    published: Published<Service>,
    endpoints: HashMap<NamespacedName, Endpoints>,
}

impl Resource for Service {
    type Key = NamespacedName;

    fn changed(self) -> Change {
        Change::Service(self)
    }

    fn removed(key: NamespacedName) -> Change {
        Change::ServiceRemoved(key)
    }
}

impl Services {
    /// A Service, or what its endpoints follow from, is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, service: &NamespacedName) {
        self.dirty.insert(service.clone());
    }

    /// A pod is another. By selector, endpoints follow every property of a pod.
    pub(super) fn mark_selecting(&mut self, pod: &NamespacedName, objects: &Objects) {
        let services = objects.tables.in_namespace(&pod.namespace);
        let selecting = services.filter(|(name, service): &(_, &ServiceObject)| {
            let has_slices = objects.references.slices_of_service.any_to(name);
            !service.selector.is_empty() && !has_slices
        });
        self.dirty.extend(selecting.map(|(name, _)| name.clone()));
    }

    /// A pod has come, gone, or become another under its name, or has other addresses: nothing else
    /// of a pod matters to slices.
    pub(super) fn mark_naming(&mut self, pod: &NamespacedName, objects: &Objects) {
        let naming = objects.references.services_of_pod.to(pod).cloned();
        self.dirty.extend(naming);
    }

    /// Looks at everything dirty; `listed` says which pods agents know.
    pub(super) fn update(
        &mut self,
        objects: &Objects,
        listed: &dyn Fn(&PodObject) -> bool,
        changes: &mut Changes,
    ) {
        let dirty = std::mem::take(&mut self.dirty);
        for name in &dirty {
            let object = objects.tables.get::<ServiceObject>(name);
            let now = object.map(|object| object.service.clone());
            self.published.set(name, now, changes);
        }
        for name in &dirty {
            let now = endpoints(name, objects, listed);
            self.update_endpoints(name, now, changes);
        }
    }

    fn update_endpoints(
        &mut self,
        service: &NamespacedName,
        now: Endpoints,
        changes: &mut Changes,
    ) {
        let before = self.endpoints.remove(service).unwrap_or_default();
        for (address, endpoint) in &now {
            if before.get(address) != Some(endpoint) {
                changes.push_changed(Change::Endpoint(endpoint.clone()));
            }
        }
        for address in before.keys().filter(|address| !now.contains_key(*address)) {
            changes.push_removed(Change::EndpointRemoved(EndpointKey {
                service: service.clone(),
                address: *address,
            }));
        }
        if !now.is_empty() {
            self.endpoints.insert(service.clone(), now);
        }
    }
}

/// The endpoints of a service: those of its slices; of its selector where it has no
/// slices, as in a directory. `listed` says which pods agents know.
fn endpoints(
    service: &NamespacedName,
    objects: &Objects,
    listed: &dyn Fn(&PodObject) -> bool,
) -> Endpoints {
    let mut endpoints = FoundEndpoints::new();
    let Some(service) = objects.tables.get::<ServiceObject>(service) else {
        return Endpoints::new();
    };
    let slices = objects
        .references
        .slices_of_service
        .to(&service.service.key);
    let mut slices = slices
        .filter_map(|name| objects.tables.get::<SliceObject>(name))
        .peekable();
    if slices.peek().is_some() {
        let is_headless = matches!(service.service.kind, ServiceKind::Headless);
        for slice in slices.filter(|slice| is_headless || !slice.is_headless) {
            from_slice(service, slice, objects, listed, &mut endpoints);
        }
    } else {
        from_selector(service, objects, listed, &mut endpoints);
    }
    ready_ones(endpoints)
}

/// Decides which endpoints take connections on each port: the ready ones; where there is none,
/// those that serve while they are on their way out, as kube-proxy does (KEP-1669).
fn ready_ones(endpoints: FoundEndpoints) -> Endpoints {
    let mut best_of_port = HashMap::<u16, Readiness>::new();
    for ((port, _), readiness) in endpoints.values().flat_map(|found| &found.ports) {
        let best = best_of_port.entry(*port).or_insert(*readiness);
        *best = (*best).min(*readiness);
    }
    let decided = endpoints.into_iter().map(|(address, found)| {
        let FoundEndpoint {
            mut endpoint,
            readiness: best,
            ports,
        } = found;
        let serves = |port: u16, readiness: Readiness| {
            readiness != Readiness::NotReady && best_of_port.get(&port) == Some(&readiness)
        };
        let is_terminating =
            |(_, is): &(&(u16, u16), &Readiness)| **is == Readiness::ServesWhileTerminating;
        let terminating = ports.iter().filter(is_terminating);
        endpoint.terminating_ports = terminating.map(|(pair, _)| *pair).collect();
        endpoint.ready = ports.iter().any(|((port, _), is)| serves(*port, *is));
        let is_listed = |port: u16, readiness: Readiness| match endpoint.ready {
            true => serves(port, readiness),
            false => readiness == best,
        };
        let listed = ports
            .into_iter()
            .filter(|((port, _), is)| is_listed(*port, *is));
        endpoint.ports = listed.map(|(pair, _)| pair).collect();
        (address, endpoint)
    });
    decided.collect()
}

/// Adds an endpoint. Its address may be in several slices, as while it moves from one to
/// another, or where a port of the Service leads to several of its own.
fn add(endpoints: &mut FoundEndpoints, endpoint: Endpoint, readiness: Readiness) {
    match endpoints.entry(endpoint.key.address) {
        Entry::Vacant(vacant) => {
            vacant.insert(FoundEndpoint::new(endpoint, readiness));
        }
        Entry::Occupied(found) => found.into_mut().merge(endpoint, readiness),
    }
}

impl FoundEndpoint {
    fn new(mut endpoint: Endpoint, readiness: Readiness) -> Self {
        let ports = std::mem::take(&mut endpoint.ports).into_iter();
        Self {
            endpoint,
            readiness,
            ports: ports.map(|pair| (pair, readiness)).collect(),
        }
    }

    /// Takes what else is said of its address: each port is as good as the best that is said of
    /// it, and so is the endpoint.
    fn merge(&mut self, mut endpoint: Endpoint, readiness: Readiness) {
        for pair in std::mem::take(&mut endpoint.ports) {
            let known = self.ports.entry(pair).or_insert(readiness);
            *known = (*known).min(readiness);
        }
        match readiness.cmp(&self.readiness) {
            Ordering::Less => (self.endpoint, self.readiness) = (endpoint, readiness),
            Ordering::Greater => {}
            Ordering::Equal => {
                let known = &mut self.endpoint;
                if known.workload.is_none() && endpoint.workload.is_some() {
                    (known.workload, known.node) = (endpoint.workload, endpoint.node);
                }
            }
        }
    }
}

/// What a Service makes of an endpoint's readiness.
fn readiness(service: &ServiceObject, readiness: Readiness) -> Readiness {
    match service.publish_not_ready {
        true => Readiness::Ready,
        false => readiness,
    }
}

/// The endpoints of a Service by its selector, as Kubernetes' endpoint controller
/// would list them.
fn from_selector(
    object: &ServiceObject,
    objects: &Objects,
    listed: &dyn Fn(&PodObject) -> bool,
    endpoints: &mut FoundEndpoints,
) {
    if object.selector.is_empty() {
        return;
    }
    let pods = objects
        .tables
        .in_namespace::<PodObject>(&object.service.key.namespace);
    let selected = pods.map(|(_, pod)| pod).filter(|pod| object.selects(pod));
    for pod in selected.filter(|pod| listed(pod)) {
        let ports = object.targets.iter();
        let ports = ports.filter_map(|(port, target)| Some((*port, target.of_pod(pod)?)));
        let ports: Vec<_> = ports.collect();
        let readiness = readiness(object, pod.readiness);
        for address in &pod.addresses {
            let key = EndpointKey {
                service: object.service.key.clone(),
                address: *address,
            };
            let workload = Some(pod.uid.clone());
            let endpoint = Endpoint {
                workload,
                ports: ports.clone(),
                ..Endpoint::new(key)
            };
            add(endpoints, endpoint, readiness);
        }
    }
}

fn from_slice(
    object: &ServiceObject,
    slice: &SliceObject,
    objects: &Objects,
    listed: &dyn Fn(&PodObject) -> bool,
    endpoints: &mut FoundEndpoints,
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
        let pod = endpoint.pod.as_ref().and_then(|target| {
            let name = NamespacedName::new(&service.key.namespace, &target.name);
            let pod = objects.tables.get::<PodObject>(&name);
            pod.filter(|pod| target.may_be_at(pod, endpoint.address))
        });
        let workload = pod.filter(|pod| listed(pod)).map(|pod| pod.uid.clone());
        // A pod's node goes with the pod.
        let node = match &workload {
            Some(_) => "",
            None => endpoint.node.as_str(),
        };
        let key = EndpointKey {
            service: service.key.clone(),
            address: endpoint.address,
        };
        let found = Endpoint {
            workload,
            ports: ports.clone(),
            node: node.into(),
            hints: endpoint.hints.clone(),
            ..Endpoint::new(key)
        };
        add(endpoints, found, readiness(object, endpoint.readiness));
    }
}
