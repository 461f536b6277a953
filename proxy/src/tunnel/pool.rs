//! The outgoing tunnel connections of one pod, kept for the next stream.
//!
//! A connection belongs to one pair of workloads: it is never used for a peer with
//! another identity or UID, even on the same address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::Request;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use weft_model::SpiffeId;
use weft_model::workload::WorkloadUid;

use super::error::TunnelError;
use super::hbone::client::{ConnectionTimes, HboneClient, ReservedStream};
use super::hbone::limits::client_age;
use super::hbone::request::connect_request;
use super::stream::TunnelStream;
use crate::admission::PodDescriptors;
use crate::identity::{Certificate, CertificateStore};
use crate::memory::PodMemory;
use crate::sockets::{self, Purpose, Sockets};
use crate::tls;
use crate::tls::revocation::Revocations;

/// How long TCP, TLS, HTTP/2 and the peer's answer may take, together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The peer that a connection leads to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct TunnelPeer {
    /// The identity that it must prove.
    pub(crate) identity: SpiffeId,
    /// Its HBONE address.
    pub(crate) gateway: SocketAddr,
    /// The pod itself: a successor on the same address is someone else.
    pub(crate) workload: WorkloadUid,
}

/// The outgoing tunnel connections of one workload.
#[derive(Debug)]
pub(crate) struct TunnelPool {
    identity: SpiffeId,
    certificates: Arc<CertificateStore>,
    times: ConnectionTimes,
    memory: Arc<PodMemory>,
    descriptors: Arc<PodDescriptors>,
    revocations: Revocations,
    peers: Mutex<HashMap<TunnelPeer, Arc<PeerConnections>>>,
    /// The connections, each until it is closed.
    driven: TaskTracker,
}

/// The connections to one peer.
#[derive(Debug)]
struct PeerConnections {
    live: Mutex<Vec<LiveConnection>>,
    /// One dials, the others wait for its result instead of dialling too.
    dialling: Semaphore,
}

/// A connection, and the certificate that it was made with.
#[derive(Debug)]
struct LiveConnection {
    client: HboneClient,
    /// The expiry of our certificate, which tells it from its successor.
    certified_until: SystemTime,
    /// The time from which on it takes no new streams.
    retires: Instant,
}

impl TunnelPool {
    /// A pool without connections. They speak as `identity`. What they hold, and their descriptors,
    /// count as the pod's. Peers whose certificates are revoked are none.
    pub(crate) fn new(
        identity: SpiffeId,
        certificates: Arc<CertificateStore>,
        times: ConnectionTimes,
        memory: Arc<PodMemory>,
        descriptors: Arc<PodDescriptors>,
        revocations: Revocations,
    ) -> Self {
        Self {
            identity,
            certificates,
            times,
            memory,
            descriptors,
            revocations,
            peers: Mutex::default(),
            driven: TaskTracker::new(),
        }
    }

    /// Opens a stream to `destination` through a peer's proxy, for a connection of
    /// `client`: on a pooled connection, else on a new one.
    ///
    /// # Errors
    /// When the peer can't be reached, isn't who it should be, or refuses.
    pub(crate) async fn open(
        &self,
        sockets: &dyn Sockets,
        peer: &TunnelPeer,
        destination: SocketAddr,
        client: SocketAddr,
    ) -> Result<TunnelStream, TunnelError> {
        let request = connect_request(destination, client)?;
        let opening = self.open_with_retry(sockets, peer, &request);
        tokio::time::timeout(OPEN_TIMEOUT, opening)
            .await
            .map_err(|_| TunnelError::Timeout)?
    }

    /// Connections that are open now.
    pub(crate) fn len(&self) -> usize {
        let peers = self.lock();
        peers.values().map(|connections| connections.open()).sum()
    }

    /// Forgets peers for which `keep` is false; streams that are open stay.
    pub(crate) fn retain(&self, keep: impl Fn(&TunnelPeer) -> bool) {
        self.lock().retain(|peer, _| keep(peer));
    }

    /// Has every connection end after its last stream, and waits until all are closed.
    pub(crate) async fn close(&self) {
        self.lock().clear();
        self.driven.close();
        self.driven.wait().await;
    }

    async fn open_with_retry(
        &self,
        sockets: &dyn Sockets,
        peer: &TunnelPeer,
        request: &Request<()>,
    ) -> Result<TunnelStream, TunnelError> {
        let reserved = self.reserve(sockets, peer).await?;
        match reserved.open(request.clone()).await {
            // A pooled connection may be on its way out; a fresh one tells.
            Err(error) if error.is_retryable() => {
                let reserved = self.reserve(sockets, peer).await?;
                reserved.open(request.clone()).await
            }
            other => other,
        }
    }

    /// A permit on a connection to the peer, which is dialled where none has one.
    async fn reserve(
        &self,
        sockets: &dyn Sockets,
        peer: &TunnelPeer,
    ) -> Result<ReservedStream, TunnelError> {
        let certificate = self.certificates.current(&self.identity);
        let certificate = certificate.ok_or(TunnelError::NoCertificate)?;
        let connections = self.connections(peer);
        if let Some(reserved) = connections.reserve(&certificate, Instant::now()) {
            return Ok(reserved);
        }
        let _turn = connections.dialling.acquire().await;
        // Whoever was before us may have dialled.
        if let Some(reserved) = connections.reserve(&certificate, Instant::now()) {
            return Ok(reserved);
        }
        let client = self.dial(sockets, peer, &certificate).await?;
        let reserved = client.reserve().ok_or(TunnelError::NoStreams);
        connections.lock().push(LiveConnection {
            client,
            certified_until: certificate.not_after,
            retires: Instant::now() + client_age(fastrand::f64()),
        });
        reserved
    }

    async fn dial(
        &self,
        sockets: &dyn Sockets,
        peer: &TunnelPeer,
        certificate: &Certificate,
    ) -> Result<HboneClient, TunnelError> {
        let config = Arc::new(tls::client_config(certificate, &peer.identity)?);
        let descriptor = self.descriptors.take().ok_or(TunnelError::NoDescriptor)?;
        let tcp = sockets::connect(sockets, peer.gateway, Purpose::Upstream, OPEN_TIMEOUT).await;
        let tcp = tcp.map_err(TunnelError::Connect)?;
        HboneClient::handshake(
            tcp,
            config,
            self.times,
            &self.memory,
            descriptor,
            self.revocations.clone(),
            &self.driven,
        )
        .await
    }

    fn connections(&self, peer: &TunnelPeer) -> Arc<PeerConnections> {
        let mut peers = self.lock();
        if let Some(connections) = peers.get(peer) {
            return Arc::clone(connections);
        }
        // Peers come and go; those without a connection are not worth remembering.
        peers.retain(|_, connections| connections.open() > 0 || Arc::strong_count(connections) > 1);
        let connections = Arc::new(PeerConnections {
            live: Mutex::default(),
            dialling: Semaphore::new(1),
        });
        peers.insert(peer.clone(), Arc::clone(&connections));
        connections
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TunnelPeer, Arc<PeerConnections>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerConnections {
    /// A permit on a live connection that was made with the current certificate and isn't too
    /// old; others take no new streams and end when they are unused.
    fn reserve(&self, certificate: &Certificate, now: Instant) -> Option<ReservedStream> {
        let mut live = self.lock();
        live.retain(|connection| {
            let is_current = connection.certified_until == certificate.not_after;
            let is_young = now < connection.retires;
            is_current && is_young && !connection.client.is_closed()
        });
        live.iter()
            .find_map(|connection| connection.client.reserve())
    }

    fn open(&self) -> usize {
        let live = self.lock();
        live.iter()
            .filter(|connection| !connection.client.is_closed())
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LiveConnection>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
