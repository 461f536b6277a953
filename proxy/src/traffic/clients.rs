//! One pod as a client of the Services that it uses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use weft_model::balance::locality::Location;
use weft_model::workload::Workload;
use weft_model::{Mesh, NamespacedName};

use super::affinity::{SessionAffinity, Sessions};
use super::client::ServiceClient;
use super::endpoint_states::EndpointStates;
use super::upstream_service::{Target, UpstreamService};
use crate::sync::lock;

/// One pod as a client of the Services that it uses: its limits, breakers and budgets.
#[derive(Debug)]
pub(crate) struct ServiceClients {
    pod: Arc<Workload>,
    location: Location,
    services: Mutex<HashMap<NamespacedName, Arc<ServiceClient>>>,
    sessions: Arc<Sessions>,
}

impl ServiceClients {
    /// A pod that has used no Service yet.
    pub(crate) fn new(pod: Arc<Workload>) -> Self {
        Self {
            location: Location::from(&*pod),
            pod,
            services: Mutex::default(),
            sessions: Arc::default(),
        }
    }

    /// The state of a port of a Service, or of a destination that is none, with the policy
    /// that a snapshot has for it. To be asked for anew for each connection and each request.
    pub(crate) fn upstream_service(
        &self,
        node: &EndpointStates,
        mesh: &Mesh,
        service: Option<(&NamespacedName, u16)>,
        now: Instant,
    ) -> UpstreamService {
        let target = service.map(|(name, port)| Target {
            client: self.client(node, name, now),
            endpoints: node.of_port(name, port, now),
            affinity: self.affinity(mesh, name, port),
        });
        UpstreamService {
            policy: service.and_then(|(name, _)| mesh.traffic_policy(name).map(Arc::clone)),
            target,
            location: self.location.clone(),
            loads: Arc::clone(&node.loads),
        }
    }

    /// Forgets Services that the pod has not used for long, and sessions that are over.
    pub(crate) fn forget_unused(&self, now: Instant) {
        let used =
            |client: &Arc<ServiceClient>| Arc::strong_count(client) > 1 || !client.is_unused(now);
        lock(&self.services).retain(|_, client| used(client));
        self.sessions.forget_ended(now);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.services).len()
    }

    #[cfg(test)]
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    fn affinity(&self, mesh: &Mesh, name: &NamespacedName, port: u16) -> Option<SessionAffinity> {
        let timeout = mesh.service(name)?.session_affinity?;
        Some(SessionAffinity {
            sessions: Arc::clone(&self.sessions),
            service: name.clone(),
            port,
            timeout,
        })
    }

    fn client(
        &self,
        node: &EndpointStates,
        service: &NamespacedName,
        now: Instant,
    ) -> Arc<ServiceClient> {
        let mut services = lock(&self.services);
        if let Some(client) = services.get(service) {
            return Arc::clone(client);
        }
        let (uid, metrics) = (self.pod.uid.clone(), node.metrics.for_pod(&self.pod));
        let client = Arc::new(ServiceClient::new(uid, service, metrics, now));
        services.insert(service.clone(), Arc::clone(&client));
        client
    }
}
