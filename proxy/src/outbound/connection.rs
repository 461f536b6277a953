//! One connection of a pod's application, as the outbound walk hands it on from phase to
//! phase.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use weft_model::idle::IdleTimeouts;
use weft_model::mesh::Candidate;
use weft_model::service::Service;
use weft_model::workload::Workload;
use weft_model::{Mesh, NamespacedName, OriginalDestination};

use crate::pod::Pod;
use crate::telemetry::ConnectionInfo;

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
    /// The destination that the application dialled.
    pub(crate) original: OriginalDestination,
    /// When it was accepted.
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
        let began = Instant::now();
        let original = pod.sockets.original_destination(accepted)?;
        let address = pod.address_like(original.address());
        let mesh = pod.node.store.snapshot();
        Ok(Self {
            workload: pod.workload(&mesh),
            client: address.map_or(peer, |address| SocketAddr::new(address, peer.port())),
            pod: Arc::clone(pod),
            mesh,
            original,
            began,
        })
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
