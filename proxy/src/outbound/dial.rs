//! Connecting to a chosen destination the way that leads there, and carrying bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use weft_model::mesh::{Candidate, Transport};
use weft_model::workload::Workload;

use crate::connections::Entry;
use crate::error::{OutboundError, TunnelError};
use crate::hbone;
use crate::hbone::client::Tunnel;
use crate::hbone::pool::Peer;
use crate::inbound::same_node::{self, HandedOver};
use crate::net::{Net, Purpose};
use crate::relay::{self, End, Progress, TcpSide};
use crate::shared::{LocalPod, Shared};

/// A connected destination.
pub(crate) enum Upstream<N> {
    Plain(TcpStream),
    Tunnel(Tunnel),
    Tls(Box<TlsStream<TcpStream>>),
    SameNode(HandedOver<N>),
}

/// Connects to a candidate the way that leads there.
pub(crate) async fn dial<N: Net>(
    shared: &Arc<Shared<N>>,
    pod: &Arc<LocalPod<N>>,
    candidate: &Candidate,
    client: SocketAddr,
) -> Result<Upstream<N>, OutboundError> {
    let address = candidate.address;
    match &candidate.transport {
        Transport::Plaintext { .. } => plain(shared, pod, address).await.map(Upstream::Plain),
        Transport::SameNode { workload, gateway } => match shared.pods.get(&workload.uid) {
            Some(destination) => {
                let source = pod.workload(shared);
                let handed =
                    same_node::hand_over(shared, destination, source, client, address).await?;
                Ok(Upstream::SameNode(handed))
            }
            // Captured, but not by this process (any more): whoever has the pod now
            // answers at its HBONE port.
            None => tunnel(pod, workload, *gateway, address, client)
                .await
                .map(Upstream::Tunnel),
        },
        Transport::Tunnel { workload, gateway } => tunnel(pod, workload, *gateway, address, client)
            .await
            .map(Upstream::Tunnel),
        Transport::Tls {
            origination,
            server_name,
        } => {
            let stream = plain(shared, pod, address).await?;
            let limit = shared.settings.handshake_timeout;
            let tls = &shared.originations;
            let stream = tls.connect(origination, server_name, &[], stream, limit);
            Ok(Upstream::Tls(Box::new(stream.await?)))
        }
    }
}

async fn plain<N: Net>(
    shared: &Shared<N>,
    pod: &LocalPod<N>,
    address: SocketAddr,
) -> Result<TcpStream, OutboundError> {
    let connecting = pod.net.connect(address, Purpose::Upstream);
    let limit = shared.settings.connect_timeout;
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connected = tokio::time::timeout(limit, connecting).await.map_err(late);
    connected.flatten().map_err(OutboundError::Connect)
}

async fn tunnel<N: Net>(
    pod: &LocalPod<N>,
    workload: &Workload,
    gateway: SocketAddr,
    address: SocketAddr,
    client: SocketAddr,
) -> Result<Tunnel, OutboundError> {
    let peer = Peer {
        identity: workload.identity.clone(),
        gateway,
        workload: workload.uid.clone(),
    };
    let request = hbone::request(address, client).map_err(TunnelError::from)?;
    Ok(pod.pool.open(&*pod.net, &peer, &request).await?)
}

/// Carries bytes until the connection ends; `None` when it was cut.
pub(super) async fn carry<N: Net>(
    shared: &Arc<Shared<N>>,
    accepted: TcpStream,
    upstream: Upstream<N>,
    progress: &Arc<Progress>,
    entry: &mut Entry,
) -> Option<End> {
    let idle = shared.settings.idle;
    match upstream {
        Upstream::Plain(stream) => tokio::select! {
            end = relay::relay_plain(accepted, stream, progress, idle) => Some(end),
            () = entry.cut() => None,
        },
        Upstream::Tunnel(Tunnel {
            streams,
            place: _place,
            ..
        }) => tokio::select! {
            end = relay::relay_stream(accepted, TcpSide::Downstream, streams, progress, idle) => Some(end),
            () = entry.cut() => None,
        },
        Upstream::Tls(stream) => tokio::select! {
            end = relay::relay_duplex(accepted, stream, progress, idle) => Some(end),
            () = entry.cut() => None,
        },
        Upstream::SameNode(handed) => {
            same_node::carry(shared, accepted, handed, progress, entry).await
        }
    }
}
