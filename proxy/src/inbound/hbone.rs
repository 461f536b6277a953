//! Tunnels that arrive for a pod: TLS, the client's identity, then one request per
//! connection.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use weft_model::SpiffeId;
use weft_model::address::canonical;
use weft_model::authorization::TunnelDenied;

use super::application::admit;
use super::arrival::Arrival;
use super::authorize::Credentials;
use super::deliver::deliver;
use super::error::InboundError;
use crate::admission::{Direction, Handshake};
use crate::pod::Pod;
use crate::stream::Stream;
use crate::tls;
use crate::tls::handshake::ServerTls;
use crate::tls::revocation::ShownCertificates;
use crate::tunnel::TunnelError;
use crate::tunnel::hbone::server::{HboneServer, TunnelRequest};

/// The client at the other end of a tunnel connection.
#[derive(Clone, Debug)]
struct TunnelClient {
    identity: SpiffeId,
    /// Its proxy's address, which is its pod's.
    address: SocketAddr,
    /// Where the tunnel connection was made to.
    connection: SocketAddr,
}

impl TunnelClient {
    fn credentials(&self) -> Credentials {
        Credentials::MutualTls {
            identity: self.identity.clone(),
            connection: self.connection,
        }
    }
}

/// Serves one tunnel connection to its end; once `draining` is cancelled it takes no further
/// tunnels. It is one of the pod's connections from the end of its handshake on.
pub(crate) async fn serve(
    pod: Arc<Pod>,
    begun: Handshake,
    accepted: TcpStream,
    peer: SocketAddr,
    draining: CancellationToken,
) {
    let peer = canonical(peer);
    let Ok(connection) = accepted.local_addr().map(canonical) else {
        return;
    };
    let limit = pod.node.settings.handshake_timeout;
    let finished = tokio::time::timeout(limit, begun.run(handshake(&pod, accepted))).await;
    let (tls, shown, identity) = match finished.unwrap_or(Err(InboundError::TlsTimeout)) {
        Ok(finished) => finished,
        Err(error) => return refuse_handshake(&pod, peer, connection, &error),
    };
    drop(begun);
    let Some(_admission) = pod.admit(Direction::Inbound) else {
        let error = InboundError::TooManyConnections;
        return refuse_handshake(&pod, peer, connection, &error);
    };
    let client = TunnelClient {
        identity,
        address: peer,
        connection,
    };
    let span = tracing::debug_span!(
        "inbound tunnel",
        pod = %pod.started_as.name,
        client = %client.identity,
    );
    async move {
        // Boxed: its size would be part of every accepted connection's.
        tokio::select! {
            served = Box::pin(serve_tunnels(&pod, tls, &client, draining)) => {
                if let Err(error) = served {
                    tracing::debug!(%error, "tunnel connection ended");
                }
            }
            reason = shown.until_revoked(pod.node.store.revocations()) => {
                tracing::warn!(%reason, "ended a client's tunnels");
            }
        }
    }
    .instrument(span)
    .await;
}

/// Refuses a tunnel connection because as many clients as may be are in their handshake.
pub(crate) fn refuse_over_limit(pod: &Arc<Pod>, accepted: TcpStream, peer: SocketAddr) {
    let (peer, connection) = (canonical(peer), accepted.local_addr().map(canonical));
    Stream::Tcp(accepted).reset();
    let error = InboundError::TooManyHandshakes;
    refuse_handshake(pod, peer, connection.unwrap_or(peer), &error);
}

async fn handshake(
    pod: &Pod,
    accepted: TcpStream,
) -> Result<(ServerTls, ShownCertificates, SpiffeId), InboundError> {
    let certificate = pod.node.certificates.current(&pod.started_as.identity);
    let certificate = certificate.ok_or(InboundError::NoCertificate)?;
    let config = tls::server_config(&certificate).map_err(|_| InboundError::NoCertificate)?;
    let tls = tls::handshake::accept(accepted, Arc::new(config)).await;
    let tls = tls.map_err(InboundError::Tls)?;
    let chain = tls.get_ref().1.peer_certificates();
    let identity = tls::peer_identity(chain)?;
    let shown = ShownCertificates::of(chain)?;
    shown.verify(&pod.node.store.revocations())?;
    Ok((tls, shown, identity))
}

/// Records a connection whose client has proven nothing.
fn refuse_handshake(
    pod: &Arc<Pod>,
    peer: SocketAddr,
    connection: SocketAddr,
    error: &InboundError,
) {
    let record = Arrival::unidentified(pod, peer, connection);
    record.fail(error.flag(), error);
}

async fn serve_tunnels(
    pod: &Arc<Pod>,
    tls: ServerTls,
    client: &TunnelClient,
    draining: CancellationToken,
) -> Result<(), TunnelError> {
    let head_time = pod.node.settings.heads.time;
    let mut server = HboneServer::handshake(tls, &pod.memory, head_time).await?;
    let mut told = false;
    loop {
        tokio::select! {
            request = server.accept() => match request {
                Some(request) => {
                    let (pod, client, request) = (Arc::clone(pod), client.clone(), request?);
                    let served = serve_tunnel(pod, client, request, draining.clone());
                    tokio::spawn(served.in_current_span());
                }
                None => {
                    server.close().await;
                    return Ok(());
                }
            },
            () = draining.cancelled(), if !told => {
                told = true;
                server.graceful_shutdown();
            }
        }
    }
}

/// Serves one tunnel: accepted once the application is connected, or refused with the
/// reason.
async fn serve_tunnel(
    pod: Arc<Pod>,
    client: TunnelClient,
    request: TunnelRequest,
    draining: CancellationToken,
) {
    let peer = client.address.ip();
    let address = request.forwarded_client(peer).unwrap_or(client.address);
    let requested = request.destination().map(canonical);
    let destination = *requested.as_ref().unwrap_or(&client.connection);
    let arrival = Arrival::new(&pod, client.credentials(), address, destination);
    let record = arrival.record();
    let admitted = match requested {
        Ok(_) => admit(&arrival).await,
        Err(error) => Err(error.into()),
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            request.refuse(status(&error));
            return error.record_in(record);
        }
    };
    match request.accept() {
        Ok(tunnel) => deliver(arrival, admitted, Stream::Tunnel(tunnel), record, draining).await,
        Err(error) => {
            let error = InboundError::from(error);
            record.fail(error.flag(), &error);
        }
    }
}

/// The status that ztunnel would answer; what AuthorizationPolicies deny is told apart.
fn status(error: &InboundError) -> StatusCode {
    match error {
        InboundError::Tunnel(TunnelDenied::TrustDomain { .. })
        | InboundError::NetworkPolicy(_)
        | InboundError::Plaintext(_) => StatusCode::UNAUTHORIZED,
        InboundError::Authorization(_) => StatusCode::FORBIDDEN,
        InboundError::Request(_)
        | InboundError::NotHttp(_)
        | InboundError::NotCaptured
        | InboundError::Tunnel(TunnelDenied::NotThisWorkload { .. } | TunnelDenied::ProxyPort(_)) => {
            StatusCode::BAD_REQUEST
        }
        InboundError::Connect(_)
        | InboundError::ConnectTimeout
        | InboundError::TooManyConnections
        | InboundError::TooManyHandshakes
        | InboundError::Tls(_)
        | InboundError::TlsTimeout
        | InboundError::NoCertificate
        | InboundError::Peer(_)
        | InboundError::TunnelServer(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_tunnel_is_small() {
        fn size<F: Future>(
            _: impl FnOnce(Arc<Pod>, TunnelClient, TunnelRequest, CancellationToken) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let serving = size(serve_tunnel);
        // Each tunnel is copied to the heap as a task, and stays there as long as it is open.
        assert!(serving <= 6 * 1024 + 512, "{serving} bytes");
    }
}
