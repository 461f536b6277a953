//! One connection of a pod's application, as the outbound walk hands it on from phase to
//! phase.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use weft_model::idle::IdleTimeouts;
use weft_model::mesh::{Candidate, Transport};
use weft_model::service::Service;
use weft_model::workload::Workload;
use weft_model::{Mesh, NamespacedName, OriginalDestination};

use crate::pod::Pod;
use crate::telemetry::ConnectionInfo;

/// The address that an application bound its socket to before it connected, if it did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BoundSource(Option<IpAddr>);

impl BoundSource {
    /// Of a connection to the proxy, which the kernel gives a loopback address when it is left
    /// to choose.
    fn of(peer: IpAddr) -> Self {
        Self(Some(peer).filter(|source| !source.is_loopback()))
    }

    /// The source of a connection to a candidate. Tunnels are shared, and leave with the pod's
    /// address.
    pub(crate) fn towards(self, candidate: &Candidate) -> Option<IpAddr> {
        match candidate.transport {
            Transport::Plaintext { .. } | Transport::Tls { .. } => self
                .0
                .filter(|source| source.is_ipv4() == candidate.address.is_ipv4()),
            Transport::Tunnel { .. } | Transport::SameNode { .. } => None,
        }
    }
}

/// A captured connection: whose it is, and where it was going.
#[derive(Clone, Debug)]
pub(crate) struct OutboundConnection {
    /// The pod.
    pub(crate) pod: Arc<Pod>,
    /// The one snapshot that everything about this connection is decided by.
    pub(crate) mesh: Arc<Mesh>,
    /// The pod as that snapshot knows it.
    pub(crate) workload: Arc<Workload>,
    /// The application's end, with the pod's address.
    pub(crate) client: SocketAddr,
    /// The address that the application has bound.
    pub(crate) bound_source: BoundSource,
    /// The destination that the application dialled.
    pub(crate) original: OriginalDestination,
    /// When it was accepted, or was connected because it was to be.
    pub(crate) began: Instant,
}

impl OutboundConnection {
    /// Finds out where an accepted connection was going.
    ///
    /// # Errors
    /// When it was not captured, but made to the proxy's port.
    pub(crate) fn identify(
        pod: &Arc<Pod>,
        accepted: &TcpStream,
        peer: SocketAddr,
    ) -> io::Result<Self> {
        let original = pod.sockets.original_destination(accepted)?;
        Ok(Self::new(pod, peer, original))
    }

    /// A connection of the application behind `peer`, accepted or still to be.
    pub(crate) fn new(pod: &Arc<Pod>, peer: SocketAddr, original: OriginalDestination) -> Self {
        let address = pod.address_like(original.address());
        let mesh = pod.node.store.snapshot();
        Self {
            workload: pod.workload(&mesh),
            client: address.map_or(peer, |address| SocketAddr::new(address, peer.port())),
            bound_source: BoundSource::of(peer.ip()),
            pod: Arc::clone(pod),
            mesh,
            original,
            began: Instant::now(),
        }
    }

    /// How long it may be silent on its way to a port of a Service, or to anything else.
    pub(crate) fn idle_timeouts(&self, service: Option<(&NamespacedName, u16)>) -> IdleTimeouts {
        let limits = self.mesh.outbound_idle_limits(&self.workload, service);
        limits.timeouts(self.pod.node.settings.idle)
    }

    /// What telemetry knows of it once its endpoint, and the service that was asked for,
    /// are chosen.
    pub(crate) fn info(
        &self,
        candidate: Option<&Candidate>,
        service: Option<&Service>,
    ) -> ConnectionInfo {
        let original = Some(self.original);
        ConnectionInfo::outbound(&self.workload, self.client, original, candidate, service)
    }
}
