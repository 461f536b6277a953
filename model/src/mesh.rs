//! The mesh as one immutable snapshot: resources in, decisions out.

mod connections;
mod externals;
mod resolution;
mod routes;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use self::connections::{ConnectionRoutes, RoutedConnection};
use self::externals::Externals;
pub use self::resolution::{Candidate, Resolution, Transport, Unroutable};
use self::routes::Routes;
use crate::address::{OriginalDestination, canonical_ip};
use crate::external::ExternalService;
use crate::policy::{HBONE_PORT, MtlsMode};
use crate::route::table::RouteTable;
use crate::route::{Route, RouteKey};
use crate::service::{Endpoint, EndpointKey, NamespacedName, Service};
use crate::traffic::TrafficPolicy;
use crate::workload::{Enrolment, Workload, WorkloadUid};

/// One step from a snapshot to the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A workload is new or different.
    Workload(Workload),
    /// A workload is gone.
    WorkloadRemoved(WorkloadUid),
    /// A service is new or different.
    Service(Service),
    /// A service is gone.
    ServiceRemoved(NamespacedName),
    /// An endpoint is new or different.
    Endpoint(Endpoint),
    /// An endpoint is gone.
    EndpointRemoved(EndpointKey),
    /// A route is new or different.
    Route(Route),
    /// A route is gone.
    RouteRemoved(RouteKey),
    /// The TrafficPolicy of a service is new or different.
    TrafficPolicy(Box<TrafficPolicy>),
    /// A service has no TrafficPolicy any more.
    TrafficPolicyRemoved(NamespacedName),
    /// An external service is new or different.
    ExternalService(ExternalService),
    /// An external service is gone.
    ExternalServiceRemoved(NamespacedName),
}

/// What the mesh consists of at one moment. Cloning is cheap in memory (entries
/// are shared), so writers copy, change and publish; readers never wait.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    workloads: HashMap<WorkloadUid, Arc<Workload>>,
    workloads_by_address: HashMap<IpAddr, Arc<Workload>>,
    services: HashMap<NamespacedName, Arc<Service>>,
    services_by_address: HashMap<IpAddr, Arc<Service>>,
    endpoints: HashMap<NamespacedName, Arc<Vec<Arc<Endpoint>>>>,
    /// How many endpoints have an address.
    endpoints_by_address: HashMap<IpAddr, usize>,
    routes: Routes,
    traffic_policies: HashMap<NamespacedName, Arc<TrafficPolicy>>,
    externals: Externals,
}

impl Mesh {
    /// The snapshot after one change. Applying the same change twice is harmless.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Workload(workload) => self.put_workload(Arc::new(workload)),
            Change::WorkloadRemoved(uid) => self.remove_workload(&uid),
            Change::Service(service) => self.put_service(Arc::new(service)),
            Change::ServiceRemoved(key) => self.remove_service(&key),
            Change::Endpoint(endpoint) => self.put_endpoint(Arc::new(endpoint)),
            Change::EndpointRemoved(key) => self.remove_endpoint(&key),
            Change::Route(route) => self.routes.put(Arc::new(route), &self.services),
            Change::RouteRemoved(key) => self.routes.remove(&key, &self.services),
            Change::TrafficPolicy(policy) => {
                let key = policy.service.clone();
                self.traffic_policies.insert(key, Arc::from(policy));
            }
            Change::TrafficPolicyRemoved(key) => {
                self.traffic_policies.remove(&key);
            }
            Change::ExternalService(service) => {
                self.externals
                    .insert(service.key.clone(), Arc::new(service));
            }
            Change::ExternalServiceRemoved(key) => {
                self.externals.remove(&key);
            }
        }
    }

    /// The workload of that UID.
    pub fn workload(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload that has that address.
    pub fn workload_by_address(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads_by_address.get(&canonical_ip(address))
    }

    /// All workloads, in no particular order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// All services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The service of that name.
    pub fn service(&self, key: &NamespacedName) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The endpoints of a service, ready or not.
    pub fn endpoints(&self, key: &NamespacedName) -> &[Arc<Endpoint>] {
        self.endpoints
            .get(key)
            .map_or(&[], |endpoints| endpoints.as_slice())
    }

    /// The route of that name.
    pub fn route(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.routes.get(key)
    }

    /// The rules that hold for what clients of a namespace send to a port of a service;
    /// `None` where no route is attached.
    pub fn route_table(
        &self,
        service: &NamespacedName,
        port: u16,
        client_namespace: &str,
    ) -> Option<&Arc<RouteTable>> {
        self.routes.of(service)?.table(client_namespace, port)
    }

    /// What a service's TrafficPolicy says, `None` where it has none.
    pub fn traffic_policy(&self, service: &NamespacedName) -> Option<&Arc<TrafficPolicy>> {
        self.traffic_policies.get(service)
    }

    /// The service that has that virtual address.
    pub fn service_by_address(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.services_by_address.get(&canonical_ip(address))
    }

    /// Whether some service has an endpoint at that address.
    pub fn is_endpoint_address(&self, address: IpAddr) -> bool {
        self.endpoints_by_address
            .contains_key(&canonical_ip(address))
    }

    /// An address as a place to go to, from a pod on `node`; a pod's is never reached in
    /// the clear when it doesn't want that.
    ///
    /// # Errors
    /// When the pod there can't be reached.
    pub fn candidate_for_address(
        &self,
        node: &str,
        address: SocketAddr,
    ) -> Result<Candidate, Unroutable> {
        let workload = self.workload_by_address(address.ip()).cloned();
        let transport = workload
            .as_ref()
            .map_or(Ok(Transport::Plaintext), |workload| {
                transport(node, workload, address.ip())
            })?;
        Ok(Candidate {
            address,
            workload,
            transport,
        })
    }

    /// Where a connection of a pod on `node` to `destination` may go.
    ///
    /// # Errors
    /// When the destination is known to the mesh but nothing there can take it.
    pub fn resolve(
        &self,
        node: &str,
        destination: OriginalDestination,
    ) -> Result<Resolution, Unroutable> {
        let address = destination.address();
        if let Some(service) = self.services_by_address.get(&address.ip()) {
            let candidates =
                self.service_candidates(node, service, address.port(), address.is_ipv4())?;
            let service = Arc::clone(service);
            return Ok(Resolution::Service {
                service,
                candidates,
            });
        }
        match self.workload_by_address(address.ip()) {
            Some(workload) => {
                let transport = transport(node, workload, address.ip())?;
                let workload = Some(Arc::clone(workload));
                Ok(Resolution::Workload(Candidate {
                    address,
                    workload,
                    transport,
                }))
            }
            None => Ok(Resolution::Unknown(address)),
        }
    }

    /// Where something for a port of a service may go, from a pod on `node`; of the
    /// family that the client uses where there is any. Never empty.
    ///
    /// # Errors
    /// When the service has no such port, or nothing there can take it.
    pub fn service_candidates(
        &self,
        node: &str,
        service: &Service,
        port: u16,
        is_ipv4: bool,
    ) -> Result<Vec<Candidate>, Unroutable> {
        let key = || service.key.clone();
        if service.port(port).is_none() {
            return Err(Unroutable::NoSuchPort {
                service: key(),
                port,
            });
        }
        let mut candidates = Vec::new();
        let mut not_captured = None;
        for endpoint in self
            .endpoints(&service.key)
            .iter()
            .filter(|endpoint| endpoint.ready)
        {
            let Some(target) = endpoint.target_port(port) else {
                continue;
            };
            let address = SocketAddr::new(endpoint.key.address, target);
            let workload = match &endpoint.workload {
                None => self.workload_by_address(address.ip()),
                // By name, so that a reused address is never taken for its former
                // owner; a pod that isn't known (any more) can't be trusted with
                // plaintext either, so its endpoint waits.
                Some(uid) => match self.workloads.get(uid) {
                    None => continue,
                    known => known,
                },
            };
            let transport = match workload {
                None => Ok(Transport::Plaintext),
                Some(workload) => transport(node, workload, address.ip()),
            };
            match transport {
                Ok(transport) => {
                    let workload = workload.cloned();
                    candidates.push(Candidate {
                        address,
                        workload,
                        transport,
                    });
                }
                Err(error) => not_captured = Some(error),
            }
        }
        // As kube-proxy does: an application may listen in one family only, and its
        // client's address has to be of the family that it is reached by.
        let same_family = |candidate: &Candidate| candidate.address.is_ipv4() == is_ipv4;
        if candidates.iter().any(same_family) {
            candidates.retain(same_family);
        }
        if candidates.is_empty() {
            let none = Unroutable::NoEndpoints {
                service: key(),
                port,
            };
            return Err(not_captured.unwrap_or(none));
        }
        Ok(candidates)
    }

    fn put_workload(&mut self, workload: Arc<Workload>) {
        self.remove_workload(&workload.uid);
        for address in &workload.addresses {
            self.workloads_by_address
                .insert(*address, Arc::clone(&workload));
        }
        self.workloads.insert(workload.uid.clone(), workload);
    }

    fn remove_workload(&mut self, uid: &WorkloadUid) {
        let Some(old) = self.workloads.remove(uid) else {
            return;
        };
        for address in &old.addresses {
            // A new pod may have taken the address before the old one was removed.
            if self
                .workloads_by_address
                .get(address)
                .is_some_and(|owner| owner.uid == *uid)
            {
                self.workloads_by_address.remove(address);
            }
        }
    }

    fn put_service(&mut self, service: Arc<Service>) {
        self.remove_service(&service.key);
        for address in service.addresses() {
            self.services_by_address
                .insert(*address, Arc::clone(&service));
        }
        let key = service.key.clone();
        self.services.insert(key.clone(), service);
        self.routes.compile(&key, &self.services);
    }

    fn remove_service(&mut self, key: &NamespacedName) {
        let Some(old) = self.services.remove(key) else {
            return;
        };
        for address in old.addresses() {
            if self
                .services_by_address
                .get(address)
                .is_some_and(|owner| owner.key == *key)
            {
                self.services_by_address.remove(address);
            }
        }
        self.routes.compile(key, &self.services);
    }

    fn put_endpoint(&mut self, endpoint: Arc<Endpoint>) {
        let list = Arc::make_mut(
            self.endpoints
                .entry(endpoint.key.service.clone())
                .or_default(),
        );
        match list.binary_search_by(|other| other.key.address.cmp(&endpoint.key.address)) {
            Ok(index) => list[index] = endpoint,
            Err(index) => {
                let address = endpoint.key.address;
                *self.endpoints_by_address.entry(address).or_default() += 1;
                list.insert(index, endpoint);
            }
        }
    }

    fn remove_endpoint(&mut self, key: &EndpointKey) {
        let Some(list) = self.endpoints.get_mut(&key.service) else {
            return;
        };
        let list = Arc::make_mut(list);
        let before = list.len();
        list.retain(|endpoint| endpoint.key.address != key.address);
        if list.len() < before
            && let Some(count) = self.endpoints_by_address.get_mut(&key.address)
        {
            *count -= 1;
            if *count == 0 {
                self.endpoints_by_address.remove(&key.address);
            }
        }
        if list.is_empty() {
            self.endpoints.remove(&key.service);
        }
    }
}

/// How to reach a workload at one of its addresses.
fn transport(node: &str, workload: &Workload, address: IpAddr) -> Result<Transport, Unroutable> {
    match (workload.enrolment, workload.mtls_mode) {
        (Enrolment::Outside, _) | (Enrolment::Pending, MtlsMode::Permissive) => {
            Ok(Transport::Plaintext)
        }
        (Enrolment::Pending, MtlsMode::Strict) => Err(Unroutable::NotCapturedYet {
            workload: workload.uid.clone(),
        }),
        (Enrolment::Captured, _) if *workload.node == *node => Ok(Transport::SameNode),
        (Enrolment::Captured, _) => Ok(Transport::Tunnel {
            gateway: SocketAddr::new(address, HBONE_PORT),
            identity: workload.identity.clone(),
        }),
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
