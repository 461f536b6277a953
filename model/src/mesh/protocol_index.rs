//! Declared protocols of workloads' ports, from the Services that the workloads serve.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::detect::protocol::DeclaredProtocol;
use crate::mesh::endpoint_index::EndpointIndex;
use crate::mesh::service_index::ServiceIndex;
use crate::name::NamespacedName;
use crate::service::{Endpoint, EndpointKey, Service};
use crate::workload::WorkloadUid;

/// The ports of all workloads that are endpoints. Compiled when something changes, not when
/// a connection comes, and for each endpoint alone: whoever writes slices may make a workload
/// thousands of endpoints, and each may come and go by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct ProtocolIndex {
    by_workload: HashMap<WorkloadUid, Arc<WorkloadPorts>>,
}

/// The ports of one workload: of each endpoint that it is, of one Service or of several.
type WorkloadPorts = BTreeMap<EndpointKey, TargetPorts>;

/// Target ports and their protocols, sorted; none where there is no such Service.
type TargetPorts = Arc<[(u16, DeclaredProtocol)]>;

impl ProtocolIndex {
    /// The protocol of a workload's port; unknown where no Service has it.
    pub(super) fn get(&self, workload: &WorkloadUid, port: u16) -> DeclaredProtocol {
        let endpoints = self.by_workload.get(workload);
        let endpoints = endpoints.iter().flat_map(|ports| ports.values());
        let declared = endpoints.filter_map(|ports| {
            let found = ports.binary_search_by_key(&port, |(target, _)| *target);
            found.ok().map(|index| ports[index].1)
        });
        let merged = declared.reduce(DeclaredProtocol::merge);
        merged.unwrap_or(DeclaredProtocol::Unknown)
    }

    /// The Services whose target port that is, in order.
    pub(super) fn services<'a>(
        &self,
        workload: &WorkloadUid,
        port: u16,
        endpoints: &'a EndpointIndex,
    ) -> impl Iterator<Item = &'a NamespacedName> {
        let keys = self.by_workload.get(workload).map(|ports| ports.keys());
        let of_workload = keys.into_iter().flatten();
        let of_workload = of_workload.filter_map(|key| endpoints.get(key));
        let serves =
            move |endpoint: &&Arc<Endpoint>| endpoint.ports.iter().any(|(_, to)| *to == port);
        let services = of_workload.filter(serves);
        let mut before = None;
        services.filter_map(move |endpoint| {
            let service = &endpoint.key.service;
            // Of several addresses, which are next to each other.
            (before.replace(service) != Some(service)).then_some(service)
        })
    }

    /// The Service whose target port that is, when exactly one has it.
    pub(super) fn only_service<'a>(
        &self,
        workload: &WorkloadUid,
        port: u16,
        endpoints: &'a EndpointIndex,
    ) -> Option<&'a NamespacedName> {
        let mut services = self.services(workload, port, endpoints);
        let first = services.next()?;
        services.next().is_none().then_some(first)
    }

    /// Follows the change of one endpoint from `old` to `new`, after the Services.
    pub(super) fn update_endpoint(
        &mut self,
        old: Option<&Endpoint>,
        new: Option<&Endpoint>,
        services: &ServiceIndex,
    ) {
        if let (Some(old), Some(new)) = (old, new)
            && (&old.workload, &old.ports) == (&new.workload, &new.ports)
        {
            return;
        }
        if let Some((uid, key)) = old.and_then(workload_and_key)
            && let Some(ports) = self.by_workload.get_mut(uid)
        {
            Arc::make_mut(ports).remove(key);
            if ports.is_empty() {
                self.by_workload.remove(uid);
            }
        }
        if let Some(new) = new {
            let service = services.get(&new.key.service);
            let declared = service.map(|service| declared_by(service));
            self.put(new, declared.as_ref());
        }
    }

    /// Follows the change of a Service of which these are the endpoints, after the other
    /// indexes.
    pub(super) fn update_service(&mut self, of_service: &[Arc<Endpoint>], now: Option<&Service>) {
        let declared = now.map(declared_by);
        for endpoint in of_service {
            self.put(endpoint, declared.as_ref());
        }
    }

    /// Takes the ports of an endpoint of a Service that declares these.
    fn put(&mut self, endpoint: &Endpoint, declared: Option<&Declared>) {
        let Some((uid, key)) = workload_and_key(endpoint) else {
            return;
        };
        let ports = target_ports(endpoint, declared);
        let known = self.by_workload.entry(uid.clone()).or_default();
        if known.get(key) != Some(&ports) {
            Arc::make_mut(known).insert(key.clone(), ports);
        }
    }
}

/// The protocols of a Service's ports.
type Declared = HashMap<u16, DeclaredProtocol>;

fn target_ports(endpoint: &Endpoint, declared: Option<&Declared>) -> TargetPorts {
    let Some(declared) = declared else {
        return Arc::default();
    };
    let mut ports = BTreeMap::new();
    for (service_port, target_port) in &endpoint.ports {
        let declared = declared.get(service_port).copied();
        let declared = declared.unwrap_or(DeclaredProtocol::Unknown);
        let merged = ports.entry(*target_port).or_insert(declared);
        *merged = merged.merge(declared);
    }
    ports.into_iter().collect()
}

/// The protocol of each port, of the first one where several have its number.
fn declared_by(service: &Service) -> Declared {
    let ports = service.ports.iter().rev();
    let declared = ports.map(|port| (port.port, DeclaredProtocol::from_port(port)));
    declared.collect()
}

fn workload_and_key(endpoint: &Endpoint) -> Option<(&WorkloadUid, &EndpointKey)> {
    Some((endpoint.workload.as_ref()?, &endpoint.key))
}

#[cfg(test)]
impl ProtocolIndex {
    /// Asserts that the index is the one that all endpoints and Services give anew.
    pub(super) fn assert_consistent(&self, services: &ServiceIndex, endpoints: &EndpointIndex) {
        let mut anew = Self::default();
        for endpoint in endpoints.iter() {
            anew.update_endpoint(None, Some(endpoint), services);
        }
        assert_eq!(anew.by_workload, self.by_workload);
    }
}
