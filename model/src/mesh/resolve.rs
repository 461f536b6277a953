//! The resolution of destinations: which endpoints a connection may go to, and by which
//! transport each is reached.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::address::OriginalDestination;
use crate::mesh::resolution::{Candidate, Resolution, Transport, Unroutable};
use crate::mesh::service_lookup::DialledService;
use crate::mesh::snapshot::Mesh;
use crate::mtls::MtlsMode;
use crate::ports::HBONE_PORT;
use crate::service::{Endpoint, Service};
use crate::workload::{Enrolment, Workload};

impl Mesh {
    /// The endpoints that a connection of a pod of a namespace, on `node`, to `destination` may
    /// go to.
    ///
    /// # Errors
    /// When the destination is known to the mesh but nothing there can take it.
    pub fn resolve(
        &self,
        node: &str,
        client_namespace: &str,
        destination: OriginalDestination,
    ) -> Result<Resolution, Unroutable> {
        let address = destination.address();
        if let Some(dialled) = self.dialled_service(client_namespace, destination) {
            let DialledService { service, port } = dialled;
            let candidates = self.service_candidates(node, &service, port, address.is_ipv4())?;
            return Ok(Resolution::Service {
                service,
                port,
                candidates,
            });
        }
        match self.workload_by_address(address.ip()) {
            Some(workload) => candidate(node, address, Some(workload)).map(Resolution::Workload),
            None => Ok(Resolution::Unknown(address)),
        }
    }

    /// The candidate for an address, for a pod on `node`: a pod that wants mutual TLS is
    /// never reached in the clear.
    ///
    /// # Errors
    /// When the pod there can't be reached.
    pub fn candidate_for_address(
        &self,
        node: &str,
        address: SocketAddr,
    ) -> Result<Candidate, Unroutable> {
        candidate(node, address, self.workload_by_address(address.ip()))
    }

    /// The candidates for a port of a Service, for a pod on `node`; of the family that the
    /// client uses where there is any, of that node only where the Service says so, and near
    /// ones where it or its slices prefer them. Never empty.
    ///
    /// # Errors
    /// When the Service has no such port, or nothing there can take it.
    pub fn service_candidates(
        &self,
        node: &str,
        service: &Service,
        port: u16,
        is_ipv4: bool,
    ) -> Result<Vec<Candidate>, Unroutable> {
        if service.port(port).is_none() {
            let service = service.key.clone();
            return Err(Unroutable::NoSuchPort { service, port });
        }
        let (mut found, mut not_captured) =
            self.usable_endpoints(node, service, port, Endpoint::ready_ports);
        // Of all nodes together none has to be looked at again: one on its way out is ready
        // where no other is.
        if service.is_node_local && found.is_empty() && not_captured.is_none() {
            (found, not_captured) =
                self.usable_endpoints(node, service, port, |endpoint| &endpoint.terminating_ports);
        }
        // As kube-proxy does: an application may listen in one family only, and its
        // client's address has to be of the family that it is reached by.
        let same_family = |(_, candidate): &(_, Candidate)| candidate.address.is_ipv4() == is_ipv4;
        if found.iter().any(same_family) {
            found.retain(same_family);
        }
        if found.is_empty() {
            let service = service.key.clone();
            return Err(not_captured.unwrap_or(Unroutable::NoEndpoints { service, port }));
        }
        self.keep_near(node, service, &mut found);
        Ok(found.into_iter().map(|(_, candidate)| candidate).collect())
    }

    /// The endpoints of a Service that take connections at these pairs of ports, each with its
    /// candidates, as far as a pod on `node` may use them; and the reason why one that takes any
    /// can't be reached.
    fn usable_endpoints(
        &self,
        node: &str,
        service: &Service,
        port: u16,
        pairs: fn(&Endpoint) -> &[(u16, u16)],
    ) -> (Vec<(&Endpoint, Candidate)>, Option<Unroutable>) {
        let (mut found, mut not_captured) = (Vec::new(), None);
        let mut add = |endpoint, target| match self.endpoint_candidate(node, endpoint, target) {
            None => {}
            Some(Ok(candidate)) => found.push((endpoint, candidate)),
            Some(Err(error)) => not_captured = Some(error),
        };
        let mut behind_nodes: Vec<DialledService> = Vec::new();
        let is_wanted =
            |endpoint: &&Arc<Endpoint>| !service.is_node_local || self.is_on(node, endpoint);
        let endpoints = self.endpoints(&service.key).iter();
        for endpoint in endpoints.filter(is_wanted) {
            let of_port = pairs(endpoint).iter().filter(|(of, _)| *of == port);
            for (_, target) in of_port {
                match self.behind_node_port(endpoint, *target) {
                    None => add(endpoint, *target),
                    Some(behind) if behind.is_port_of(service, port) => {}
                    // Every node leads to the same Service.
                    Some(behind)
                        if behind_nodes
                            .iter()
                            .any(|known| known.is_port_of(&behind.service, behind.port)) => {}
                    Some(behind) => behind_nodes.push(behind),
                }
            }
        }
        for DialledService { service, port } in &behind_nodes {
            for endpoint in self.endpoints(&service.key) {
                let of_port = endpoint.ready_ports().iter().filter(|(of, _)| of == port);
                of_port.for_each(|(_, target)| add(endpoint, *target));
            }
        }
        (found, not_captured)
    }

    /// The Service that a port of an endpoint stands for, where the endpoint is a node and that its
    /// node port. It isn't followed any further.
    fn behind_node_port(&self, endpoint: &Endpoint, target_port: u16) -> Option<DialledService> {
        let address = endpoint.key.address;
        let is_node = endpoint.workload.is_none() && self.nodes.has_address(address);
        if !is_node || self.workload_by_address(address).is_some() {
            return None;
        }
        self.by_node_port(target_port)
    }

    /// The candidate for one of the ports of an endpoint; `None` when its pod isn't known.
    fn endpoint_candidate(
        &self,
        node: &str,
        endpoint: &Endpoint,
        target_port: u16,
    ) -> Option<Result<Candidate, Unroutable>> {
        let address = SocketAddr::new(endpoint.key.address, target_port);
        let workload = match &endpoint.workload {
            None => self.workload_by_address(address.ip()),
            // By UID, so that a reused address is never taken for its former owner; a pod
            // that isn't known (any more) can't be trusted with plaintext either, so its
            // endpoint waits.
            Some(uid) => Some(self.workload(uid)?),
        };
        Some(candidate(node, address, workload))
    }

    /// Whether an endpoint is on that node.
    pub(super) fn is_on(&self, node: &str, endpoint: &Endpoint) -> bool {
        self.node_of(endpoint).is_some_and(|of| *of == *node)
    }

    /// The name of the node that an endpoint is on, where that is known.
    pub(super) fn node_of<'a>(&'a self, endpoint: &'a Endpoint) -> Option<&'a str> {
        if !endpoint.node.is_empty() {
            return Some(&endpoint.node);
        }
        let workload = match &endpoint.workload {
            None => self.workload_by_address(endpoint.key.address),
            Some(uid) => self.workload(uid),
        };
        workload.map(|workload| &*workload.node)
    }
}

/// The candidate for an address, with the workload there.
fn candidate(
    node: &str,
    address: SocketAddr,
    workload: Option<&Arc<Workload>>,
) -> Result<Candidate, Unroutable> {
    let transport = match workload {
        None => Transport::Plaintext { workload: None },
        Some(workload) => transport(node, workload, address)?,
    };
    Ok(Candidate { address, transport })
}

/// The transport to a port of a workload at one of its addresses.
fn transport(
    node: &str,
    workload: &Arc<Workload>,
    address: SocketAddr,
) -> Result<Transport, Unroutable> {
    let gateway = SocketAddr::new(address.ip(), HBONE_PORT);
    let known = Arc::clone(workload);
    match (workload.enrolment, workload.mtls_mode_at(address.port())) {
        (Enrolment::Outside, _)
        | (Enrolment::Pending, MtlsMode::Permissive)
        | (_, MtlsMode::Disabled) => {
            let workload = Some(known);
            Ok(Transport::Plaintext { workload })
        }
        (Enrolment::Pending, MtlsMode::Strict) => Err(Unroutable::NotCapturedYet {
            workload: workload.uid.clone(),
        }),
        (Enrolment::Captured, _) if *workload.node == *node => Ok(Transport::SameNode {
            workload: known,
            gateway,
        }),
        (Enrolment::Captured, _) => Ok(Transport::Tunnel {
            workload: known,
            gateway,
        }),
    }
}

#[cfg(test)]
mod tests;
