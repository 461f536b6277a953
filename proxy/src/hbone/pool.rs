//! The outgoing HBONE connections of one pod, kept for the next tunnel.
//!
//! A connection belongs to one pair of workloads: it is never used for a peer with
//! another identity or UID, even on the same address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::sync::Semaphore;
use weft_model::SpiffeId;
use weft_model::workload::WorkloadUid;

use super::client::{Connection, DIAL_TIMEOUT, Place, Tunnel, TunnelError, open};
use crate::identity::{Certificate, CertificateStore};
use crate::net::{Net, Purpose};
use crate::tls;

/// Whom a connection leads to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Peer {
    /// The identity that it must prove.
    pub(crate) identity: SpiffeId,
    /// Its HBONE address.
    pub(crate) gateway: SocketAddr,
    /// The pod itself: a successor on the same address is someone else.
    pub(crate) workload: WorkloadUid,
}

/// The connections to one peer.
#[derive(Debug)]
struct Connections {
    live: Mutex<Vec<Live>>,
    /// One dials, the others wait for its result instead of dialling too.
    dialling: Semaphore,
}

/// A connection, and the certificate that it was made with.
#[derive(Debug)]
struct Live {
    connection: Connection,
    issued: SystemTime,
}

/// The outgoing connections of one workload.
#[derive(Debug)]
pub(crate) struct Pool {
    identity: SpiffeId,
    certificates: Arc<CertificateStore>,
    idle: Duration,
    peers: Mutex<HashMap<Peer, Arc<Connections>>>,
}

impl Pool {
    pub(crate) fn new(
        identity: SpiffeId,
        certificates: Arc<CertificateStore>,
        idle: Duration,
    ) -> Self {
        Self {
            identity,
            certificates,
            idle,
            peers: Mutex::default(),
        }
    }

    /// Opens a tunnel to a peer: on a pooled connection, else on a new one.
    pub(crate) async fn open<N: Net>(
        &self,
        net: &N,
        peer: &Peer,
        request: &Request<()>,
    ) -> Result<Tunnel, TunnelError> {
        let opened = async {
            let first = open(self.place(net, peer).await?, request.clone()).await;
            match first {
                // A pooled connection may be on its way out; a fresh one tells.
                Err(error) if error.is_retryable() => {
                    open(self.place(net, peer).await?, request.clone()).await
                }
                other => other,
            }
        };
        tokio::time::timeout(DIAL_TIMEOUT, opened)
            .await
            .map_err(|_| TunnelError::Timeout)?
    }

    /// Connections that are open now.
    pub(crate) fn len(&self) -> usize {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.values().map(|connections| connections.open()).sum()
    }

    /// Forgets peers for which `keep` is false; tunnels that are open stay.
    pub(crate) fn retain(&self, keep: impl Fn(&Peer) -> bool) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|peer, _| keep(peer));
    }

    async fn place<N: Net>(
        &self,
        net: &N,
        peer: &Peer,
    ) -> Result<(SendRequest<Bytes>, Place), TunnelError> {
        let certificate = self
            .certificates
            .current(&self.identity)
            .ok_or(TunnelError::NoCertificate)?;
        let connections = self.connections(peer);
        if let Some(place) = connections.reserve(&certificate) {
            return Ok(place);
        }
        let _turn = connections.dialling.acquire().await;
        // Whoever was before us may have dialled.
        if let Some(place) = connections.reserve(&certificate) {
            return Ok(place);
        }
        let connection = self.dial(net, peer, &certificate).await?;
        let place = connection.reserve();
        connections.add(Live {
            connection,
            issued: certificate.not_after,
        });
        place.ok_or(TunnelError::Timeout)
    }

    async fn dial<N: Net>(
        &self,
        net: &N,
        peer: &Peer,
        certificate: &Certificate,
    ) -> Result<Connection, TunnelError> {
        let config = Arc::new(tls::client_config(certificate, &peer.identity)?);
        let tcp = net.connect(peer.gateway, Purpose::Upstream).await;
        Connection::establish(tcp.map_err(TunnelError::Connect)?, config, self.idle).await
    }

    fn connections(&self, peer: &Peer) -> Arc<Connections> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = peers.get(peer) {
            return Arc::clone(connections);
        }
        // Peers come and go; those without a connection are not worth remembering.
        peers.retain(|_, connections| connections.open() > 0 || Arc::strong_count(connections) > 1);
        let connections = Arc::new(Connections {
            live: Mutex::default(),
            dialling: Semaphore::new(1),
        });
        peers.insert(peer.clone(), Arc::clone(&connections));
        connections
    }
}

impl Connections {
    /// A place on a live connection that was made with the current certificate; those
    /// of its predecessors take no new tunnels and end when they are unused.
    fn reserve(&self, certificate: &Certificate) -> Option<(SendRequest<Bytes>, Place)> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|live| !live.connection.is_closed() && live.issued == certificate.not_after);
        live.iter().find_map(|live| live.connection.reserve())
    }

    fn add(&self, connection: Live) {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }

    fn open(&self) -> usize {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.iter()
            .filter(|live| !live.connection.is_closed())
            .count()
    }
}
