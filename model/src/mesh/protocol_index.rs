//! Declared protocols of workloads' ports, from the Services that the workloads serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::detect::protocol::DeclaredProtocol;
use crate::mesh::endpoint_index::EndpointIndex;
use crate::mesh::service_index::ServiceIndex;
use crate::name::NamespacedName;
use crate::service::{Endpoint, EndpointKey};
use crate::workload::WorkloadUid;

/// The ports of all workloads that are endpoints. Compiled when something changes, not when
/// a connection comes.
#[derive(Clone, Debug, Default)]
pub(super) struct ProtocolIndex {
    by_workload: HashMap<WorkloadUid, Arc<WorkloadPorts>>,
}

/// The ports of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
struct WorkloadPorts {
    /// Endpoints that the workload is, of one Service or of several.
    endpoints: BTreeSet<EndpointKey>,
    /// Protocol of each target port of these.
    protocols: BTreeMap<u16, DeclaredProtocol>,
}

impl ProtocolIndex {
    /// The protocol of a workload's port; unknown where no Service has it.
    pub(super) fn get(&self, workload: &WorkloadUid, port: u16) -> DeclaredProtocol {
        let ports = self.by_workload.get(workload);
        let protocol = ports.and_then(|ports| ports.protocols.get(&port));
        protocol.copied().unwrap_or(DeclaredProtocol::Unknown)
    }

    /// The Service whose target port that is, when exactly one has it.
    pub(super) fn only_service<'a>(
        &self,
        workload: &WorkloadUid,
        port: u16,
        endpoints: &'a EndpointIndex,
    ) -> Option<&'a NamespacedName> {
        let keys = &self.by_workload.get(workload)?.endpoints;
        let serves = |endpoint: &&Arc<Endpoint>| endpoint.ports.iter().any(|(_, to)| *to == port);
        let of_workload = keys.iter().filter_map(|key| endpoints.get(key));
        let mut services = of_workload
            .filter(serves)
            .map(|endpoint| &endpoint.key.service);
        let first = services.next()?;
        services.all(|service| service == first).then_some(first)
    }

    /// Follows the change of one endpoint from `old` to `new`, after the other indexes.
    pub(super) fn update_endpoint(
        &mut self,
        old: Option<&Endpoint>,
        new: Option<&Endpoint>,
        services: &ServiceIndex,
        endpoints: &EndpointIndex,
    ) {
        if let (Some(old), Some(new)) = (old, new)
            && (&old.workload, &old.ports) == (&new.workload, &new.ports)
        {
            return;
        }
        if let Some((uid, key)) = old.and_then(workload_and_key)
            && let Some(ports) = self.by_workload.get_mut(uid)
        {
            Arc::make_mut(ports).endpoints.remove(key);
            self.compile(uid, services, endpoints);
        }
        if let Some((uid, key)) = new.and_then(workload_and_key) {
            let ports = self.by_workload.entry(uid.clone()).or_default();
            Arc::make_mut(ports).endpoints.insert(key.clone());
            self.compile(uid, services, endpoints);
        }
    }

    /// Follows the change of a Service of which these are the endpoints, after the other
    /// indexes.
    pub(super) fn update_service(
        &mut self,
        of_service: &[Arc<Endpoint>],
        services: &ServiceIndex,
        endpoints: &EndpointIndex,
    ) {
        let workloads = of_service.iter().filter_map(|e| e.workload.as_ref());
        for workload in workloads.collect::<BTreeSet<_>>() {
            self.compile(workload, services, endpoints);
        }
    }

    /// Compiles the ports of a workload, whose endpoints or their Services have changed.
    fn compile(&mut self, uid: &WorkloadUid, services: &ServiceIndex, endpoints: &EndpointIndex) {
        let Some(ports) = self.by_workload.get_mut(uid) else {
            return;
        };
        if ports.endpoints.is_empty() {
            self.by_workload.remove(uid);
            return;
        }
        let mut protocols = BTreeMap::new();
        for endpoint in ports.endpoints.iter().filter_map(|key| endpoints.get(key)) {
            let Some(service) = services.get(&endpoint.key.service) else {
                continue;
            };
            for (service_port, target_port) in &endpoint.ports {
                let declared = service.port(*service_port).map(DeclaredProtocol::from_port);
                let declared = declared.unwrap_or(DeclaredProtocol::Unknown);
                let merged = protocols.entry(*target_port).or_insert(declared);
                *merged = merged.merge(declared);
            }
        }
        if ports.protocols != protocols {
            Arc::make_mut(ports).protocols = protocols;
        }
    }
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
            anew.update_endpoint(None, Some(endpoint), services, endpoints);
        }
        assert_eq!(anew.by_workload, self.by_workload);
    }
}
