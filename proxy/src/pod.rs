//! One pod that this process serves.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use weft_model::mesh::{Candidate, Unroutable};
use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{Mesh, NamespacedName};

use crate::admission::{
    Admission, AdmissionLimit, Direction, Handshake, Handshakes, PodDescriptors,
};
use crate::http::pool::{HttpPool, LongestIdle};
use crate::jwt::TokenVerifier;
use crate::last_known::LastKnown;
use crate::memory::PodMemory;
use crate::node::Node;
use crate::probe_redirects::ProbeRedirects;
use crate::rate_limit::RateLimits;
use crate::sockets::Sockets;
use crate::telemetry::PodTelemetry;
use crate::traffic::{CandidateCache, ReceivedRates, ServiceClients, UpstreamService};
use crate::tunnel::{ConnectionTimes, TunnelPool};
use crate::upstream::{Dialer, Names};

/// Mirrored requests that a pod may have under way.
pub(crate) const MOST_MIRRORS: usize = 256;

/// One pod that this process serves: one run of its proxy.
#[derive(Debug)]
pub(crate) struct Pod {
    /// What it shares with the other pods.
    pub(crate) node: Arc<Node>,
    /// The pod as it was when its proxy started; [`Pod::workload`] gives it as it is now.
    pub(crate) started_as: Arc<Workload>,
    last_known: Arc<LastKnown>,
    /// Sockets in its network namespace.
    pub(crate) sockets: Arc<dyn Sockets>,
    /// Opens its connections.
    pub(crate) dialer: Dialer,
    /// Its HTTP connections to endpoints.
    pub(crate) http_pool: HttpPool,
    /// What it has under way to each Service.
    pub(crate) clients: ServiceClients,
    /// Its questions to rate limit services.
    pub(crate) rate_limits: RateLimits,
    /// The names that it has asked for.
    pub(crate) names: Names,
    /// Permits for mirrored requests.
    pub(crate) mirrors: Arc<Semaphore>,
    /// Where its connections and requests are recorded.
    pub(crate) telemetry: PodTelemetry,
    /// What its application has redirected kubelet's probes to.
    pub(crate) probe_redirects: ProbeRedirects,
    /// The tokens of the requests that it gets.
    pub(crate) tokens: Arc<TokenVerifier>,
    /// How often it is asked.
    pub(crate) received_rates: Arc<ReceivedRates>,
    /// What its connections hold of memory.
    pub(crate) memory: Arc<PodMemory>,
    candidates: CandidateCache,
    admission: AdmissionLimit,
    handshakes: Arc<Handshakes>,
}

impl Pod {
    /// A pod with no connection yet.
    pub(crate) fn new(node: Arc<Node>, workload: Arc<Workload>, sockets: Arc<dyn Sockets>) -> Self {
        let telemetry = node.telemetry.for_pod(&workload);
        let shown = telemetry.metrics().held_memory();
        let memory = node.memory.pod(&workload.name, shown);
        let descriptors = Arc::new(PodDescriptors::new(Arc::clone(&node.descriptors)));
        let tunnels = TunnelPool::new(
            workload.identity.clone(),
            Arc::clone(&node.certificates),
            ConnectionTimes {
                idle: node.settings.tunnel_idle,
                head: node.settings.heads.time,
            },
            Arc::clone(&memory),
            Arc::clone(&descriptors),
            node.store.revocations(),
        );
        let dialer = Dialer {
            sockets: Arc::clone(&sockets),
            tunnels,
            originations: Arc::clone(&node.originations),
            neighbours: Arc::clone(&node.neighbours),
            settings: node.settings,
            descriptors: Arc::clone(&descriptors),
        };
        let settings = &node.settings;
        Self {
            admission: AdmissionLimit::new(settings.connections_per_pod, Arc::clone(&descriptors)),
            handshakes: Arc::new(Handshakes::new(
                settings.handshakes_per_pod,
                settings.handshakes_per_address,
                descriptors,
            )),
            sockets,
            dialer,
            http_pool: HttpPool::new(
                LongestIdle {
                    http1: node.settings.http1_idle,
                    http2: node.settings.http2_idle,
                },
                node.settings.heads,
                Arc::clone(&memory),
            ),
            memory,
            clients: ServiceClients::new(Arc::clone(&workload)),
            rate_limits: RateLimits::new(node.control_plane.clone()),
            names: Names::default(),
            mirrors: Arc::new(Semaphore::new(MOST_MIRRORS)),
            telemetry,
            probe_redirects: ProbeRedirects::default(),
            received_rates: Arc::default(),
            tokens: Arc::new(TokenVerifier::asking(node.store.key_requests())),
            candidates: CandidateCache::default(),
            last_known: Arc::new(LastKnown::new(
                Arc::clone(&workload),
                &node.store.snapshot(),
            )),
            started_as: workload,
            node,
        }
    }

    /// The pod as the mesh knows it, or last knew it.
    pub(crate) fn last_known(&self) -> &Arc<LastKnown> {
        &self.last_known
    }

    /// What names the pod for as long as it lives.
    pub(crate) fn uid(&self) -> &WorkloadUid {
        &self.started_as.uid
    }

    /// The pod as a snapshot of the mesh knows it, or as it was last known: its mode may have
    /// changed since it started. One of whose addresses the mesh doesn't know is reached by those
    /// that it started with.
    pub(crate) fn workload(&self, mesh: &Mesh) -> Arc<Workload> {
        let known = self.last_known.workload(mesh);
        match known.addresses.is_empty() && !self.started_as.addresses.is_empty() {
            true => Arc::new(Workload {
                addresses: self.started_as.addresses.clone(),
                ..Workload::clone(&known)
            }),
            false => known,
        }
    }

    /// The state of a port of a Service, or of a destination that is none, with the policy
    /// that a snapshot has for it.
    pub(crate) fn upstream_service(
        &self,
        mesh: &Mesh,
        service: Option<(&NamespacedName, u16)>,
        now: Instant,
    ) -> UpstreamService {
        let endpoints = &self.node.endpoints;
        self.clients.upstream_service(endpoints, mesh, service, now)
    }

    /// The candidates for a port of a Service, looked up once for each snapshot.
    ///
    /// # Errors
    /// When there is no such port, or no endpoint for it that the pod may reach.
    pub(crate) fn candidates(
        &self,
        mesh: &Arc<Mesh>,
        service: (&NamespacedName, u16),
        is_ipv4: bool,
    ) -> Result<Arc<[Candidate]>, Unroutable> {
        self.candidates.candidates(
            mesh,
            &self.workload(mesh),
            &self.node.name,
            service,
            is_ipv4,
        )
    }

    /// A permit for one more connection; `None` when the pod has as many as it may, or those that
    /// it has hold too much.
    pub(crate) fn admit(&self, direction: Direction) -> Option<Admission> {
        match self.memory.is_short() {
            true => None,
            false => self.admission.admit(direction),
        }
    }

    /// The same for the other end of a connection that has its permit.
    pub(crate) fn admit_end(&self) -> Option<Admission> {
        self.admission.admit_end()
    }

    /// A permit for the handshake of one more client, at that address; `None` when there are as
    /// many as may be.
    pub(crate) fn begin_handshake(&self, client: IpAddr) -> Option<Handshake> {
        self.handshakes.begin(client)
    }

    /// Resolves when no connection is open: accepted ones, tunnel connections included, and
    /// those that pods of this node have handed over.
    pub(crate) async fn all_connections_ended(&self) {
        self.admission.all_ended().await;
    }

    /// The pod's address that a peer at `like` would see: of the same family when it has
    /// one.
    pub(crate) fn address_like(&self, like: SocketAddr) -> Option<IpAddr> {
        let addresses = &self.started_as.addresses;
        let same = addresses
            .iter()
            .find(|address| address.is_ipv4() == like.is_ipv4());
        same.or_else(|| addresses.first()).copied()
    }
}
