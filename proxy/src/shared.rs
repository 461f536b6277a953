//! What all pods of a node share, and what belongs to one pod.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{Mesh, NamespacedName};

use crate::config::control_plane::ControlPlane;
use crate::connections::{ConnectionTable, ProxyId};
use crate::hbone::pool::Pool;
use crate::http::PodHttp;
use crate::identity::CertificateStore;
use crate::metrics::Metrics;
use crate::relay::IdleTimeouts;
use crate::resilience::{Clients, Resilience, Upstream};
use crate::store::Store;
use crate::tls::originate::Originations;
use crate::traffic_split::RuleSequences;

/// Limits and times of the data path.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections that one pod may have through the proxy, both directions together.
    pub connections_per_pod: usize,
    /// How long a connection to a destination or an application may take.
    pub connect_timeout: Duration,
    /// How long a client may take for its TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a connection may be silent.
    pub idle: IdleTimeouts,
    /// How long a pooled tunnel connection lives unused.
    pub pool_idle: Duration,
    /// How long a connection for requests is kept for the next one.
    pub http_idle: Duration,
    /// Endpoints of a service that are tried before a connection fails.
    pub attempts: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_per_pod: 32_768,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            // Silent for an hour is what L4 proxies of the field cut, too; once one
            // direction has ended, the rest should follow soon.
            idle: IdleTimeouts {
                open: Duration::from_secs(3600),
                half_closed: Duration::from_secs(300),
            },
            pool_idle: Duration::from_secs(300),
            // Shorter than what servers of the field allow, so that theirs seldom end first.
            http_idle: Duration::from_secs(50),
            attempts: 3,
        }
    }
}

/// What all pods of a node share.
#[derive(Debug)]
pub struct Shared<N> {
    /// This node's name.
    pub node: Arc<str>,
    /// The mesh.
    pub store: Arc<Store>,
    /// The certificates of the node's pods.
    pub certificates: Arc<CertificateStore>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Connections that are open now.
    pub connections: Arc<ConnectionTable>,
    /// The pods that this process serves.
    pub pods: LocalPods<N>,
    /// What is known of endpoints.
    pub(crate) resilience: Resilience,
    /// Where the draws between backends stand.
    pub(crate) rule_sequences: RuleSequences,
    /// TLS to external services.
    pub(crate) originations: Originations,
    /// Limits and times.
    pub settings: Settings,
    /// Whom rate limits are asked of that have no server of their own.
    pub control_plane: Option<ControlPlane>,
}

impl<N> Shared<N> {
    /// Everything a node's proxies share, with no pod yet.
    pub fn new(
        node: &str,
        store: Arc<Store>,
        certificates: Arc<CertificateStore>,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Self {
        Self {
            node: node.into(),
            store,
            certificates,
            resilience: Resilience::new(Arc::clone(&metrics)),
            metrics,
            connections: Arc::default(),
            pods: LocalPods::default(),
            rule_sequences: RuleSequences::default(),
            originations: Originations::default(),
            settings,
            control_plane: None,
        }
    }

    /// The same, with a control plane to ask about rate limits.
    #[must_use]
    pub fn with_control_plane(self, control_plane: ControlPlane) -> Self {
        Self {
            control_plane: Some(control_plane),
            ..self
        }
    }
}

/// One pod that this process serves.
#[derive(Debug)]
pub struct LocalPod<N> {
    /// The pod as it was when its proxy started; [`LocalPod::workload`] gives it as it is now.
    pub(crate) started_as: Arc<Workload>,
    /// Its sockets.
    pub(crate) net: Arc<N>,
    /// Its outgoing tunnel connections.
    pub(crate) pool: Pool,
    /// What it has for requests.
    pub(crate) http: PodHttp,
    /// What it has under way to each Service.
    pub(crate) clients: Clients,
    /// This run of its proxy.
    pub(crate) proxy: ProxyId,
    open: AtomicUsize,
    limit: usize,
}

/// One connection's share of its pod's limit; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission<N>(Arc<LocalPod<N>>);

impl<N> Drop for Admission<N> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<N> LocalPod<N> {
    pub(crate) fn new(workload: Arc<Workload>, net: Arc<N>, shared: &Shared<N>) -> Self {
        let certificates = Arc::clone(&shared.certificates);
        let pool = Pool::new(
            workload.identity.clone(),
            certificates,
            shared.settings.pool_idle,
        );
        let limit = shared.settings.connections_per_pod;
        Self {
            clients: Clients::new(Arc::clone(&workload)),
            started_as: workload,
            net,
            pool,
            http: PodHttp::new(shared.control_plane.clone()),
            proxy: shared.connections.proxy_id(),
            open: AtomicUsize::new(0),
            limit,
        }
    }

    /// The pod as the mesh knows it now: its mode may have changed since it started.
    pub(crate) fn workload(&self, shared: &Shared<N>) -> Arc<Workload> {
        let now = shared.store.snapshot();
        let known = now.workload(&self.started_as.uid).map(Arc::clone);
        known.unwrap_or_else(|| Arc::clone(&self.started_as))
    }

    /// The way to a port of a Service, or to a destination that is none, as the mesh says
    /// now. To be asked for anew for each connection and each request.
    pub(crate) fn upstream(
        &self,
        shared: &Shared<N>,
        mesh: &Mesh,
        service: Option<(&NamespacedName, u16)>,
        now: Instant,
    ) -> Upstream {
        self.clients
            .upstream(&shared.resilience, mesh, service, now)
    }

    /// A place for one more connection, `None` when the pod has all it may have.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admission<N>> {
        let taken = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < self.limit).then_some(open + 1)
            });
        taken.ok().map(|_| Admission(Arc::clone(self)))
    }

    /// Connections that were accepted, tunnel connections included, and those that pods
    /// of this node have handed over.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// The pod's address that a peer at `like` would see: of the same family when it
    /// has one.
    pub(crate) fn address_like(&self, like: SocketAddr) -> Option<IpAddr> {
        let addresses = &self.started_as.addresses;
        let same = addresses
            .iter()
            .find(|address| address.is_ipv4() == like.is_ipv4());
        same.or_else(|| addresses.first()).copied()
    }
}

/// The pods that this process serves, for hand-over on the same node.
#[derive(Debug)]
pub struct LocalPods<N>(RwLock<HashMap<WorkloadUid, Arc<LocalPod<N>>>>);

impl<N> Default for LocalPods<N> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<N> LocalPods<N> {
    pub(crate) fn get(&self, uid: &WorkloadUid) -> Option<Arc<LocalPod<N>>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .map(Arc::clone)
    }

    pub(crate) fn insert(&self, pod: Arc<LocalPod<N>>) {
        let uid = pod.started_as.uid.clone();
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid, pod);
    }

    /// Takes a pod out, unless a later run of its proxy has taken its place.
    pub(crate) fn remove(&self, pod: &Arc<LocalPod<N>>) {
        let mut pods = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let uid = &pod.started_as.uid;
        if pods
            .get(uid)
            .is_some_and(|current| Arc::ptr_eq(current, pod))
        {
            pods.remove(uid);
        }
    }
}
