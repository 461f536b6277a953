//! Tunnels that arrive for a pod: TLS, the client's identity, then one CONNECT
//! request per connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::watch;
use weft_model::SpiffeId;
use weft_model::address::canonical;
use weft_model::authorization::{TunnelDenied, authorize_tunnel};
use weft_model::workload::Workload;

use super::{connect, describe, refused};
use crate::connections::StillAllowed;
use crate::error::InboundError;
use crate::hbone::{
    self, CONNECTION_WINDOW, FRAME_SIZE, HEADER_LIST, MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW,
    keepalive,
};
use crate::net::Net;
use crate::record::{self, Outcome, Party, Path, Security};
use crate::relay::{self, TcpSide};
use crate::shared::{LocalPod, Shared};
use crate::tls;
use crate::tls::handshake::ServerTls;

/// The client at the other end of a tunnel connection.
#[derive(Clone)]
struct Client {
    identity: SpiffeId,
    /// Its proxy's address, which is its pod's.
    address: SocketAddr,
    /// Where the tunnel connection was made to.
    local: SocketAddr,
}

/// Serves one tunnel connection to its end. `draining` turns true when it shall take
/// no further tunnels.
pub(crate) async fn serve<N: Net>(
    shared: Arc<Shared<N>>,
    pod: Arc<LocalPod<N>>,
    accepted: TcpStream,
    peer: SocketAddr,
    draining: watch::Receiver<bool>,
) {
    let (began, peer) = (Instant::now(), canonical(peer));
    let Ok(local) = accepted.local_addr().map(canonical) else {
        return;
    };
    let handshake = handshake(&shared, &pod, accepted);
    let limit = shared.settings.handshake_timeout;
    let handshake = tokio::time::timeout(limit, handshake).await;
    let (tls, identity) = match handshake.unwrap_or(Err(InboundError::TlsTimeout)) {
        Ok(finished) => finished,
        Err(error) => {
            let source = Party::known(None, peer);
            let workload = pod.workload(&shared);
            let path = Path::CrossNode;
            let connection = describe(&workload, source, local, Security::MutualTls, path);
            refused(&shared, &pod, &connection, &error, began);
            return;
        }
    };
    let client = Client {
        identity,
        address: peer,
        local,
    };
    if let Err(error) = serve_tunnels(&shared, &pod, tls, &client, draining).await {
        tracing::debug!(%error, client = %client.identity, "tunnel connection ended");
    }
}

async fn handshake<N>(
    shared: &Shared<N>,
    pod: &LocalPod<N>,
    accepted: TcpStream,
) -> Result<(ServerTls, SpiffeId), InboundError> {
    let certificate = shared.certificates.current(&pod.started_as.identity);
    let certificate = certificate.ok_or(InboundError::NoCertificate)?;
    let config = tls::server_config(&certificate).map_err(|_| InboundError::NoCertificate)?;
    let tls = tls::handshake::accept(accepted, Arc::new(config)).await;
    let tls = tls.map_err(InboundError::Tls)?;
    let identity = tls::peer_identity(tls.get_ref().1.peer_certificates())?;
    Ok((tls, identity))
}

async fn serve_tunnels<N: Net>(
    shared: &Arc<Shared<N>>,
    pod: &Arc<LocalPod<N>>,
    tls: ServerTls,
    client: &Client,
    mut draining: watch::Receiver<bool>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(tls)
        .await?;
    let ping = connection.ping_pong();
    let mut dead = std::pin::pin!(async {
        match ping {
            Some(ping) => keepalive::watch(ping).await,
            None => std::future::pending().await,
        }
    });
    let mut drain = std::pin::pin!(async {
        if draining.wait_for(|draining| *draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let mut told = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(request) => {
                    let (request, respond) = request?;
                    let (shared, pod) = (Arc::clone(shared), Arc::clone(pod));
                    let client = client.clone();
                    tokio::spawn(async move {
                        serve_tunnel(&shared, &pod, &client, request, respond).await;
                    });
                }
                None => return Ok(()),
            },
            () = &mut dead => return Ok(()),
            () = &mut drain, if !told => {
                told = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Serves one tunnel: answer 200 once the application is connected, or why not.
async fn serve_tunnel<N: Net>(
    shared: &Arc<Shared<N>>,
    pod: &Arc<LocalPod<N>>,
    client: &Client,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let began = Instant::now();
    let (workload, uid) = (pod.workload(shared), &pod.started_as.uid);
    let to = hbone::destination(request.method(), request.uri());
    let address = hbone::forwarded_client(request.headers(), client.address.ip());
    let address = address.unwrap_or(client.address);
    let known = shared
        .store
        .snapshot()
        .workload_by_address(client.address.ip())
        .map(Arc::clone);
    let source = Party::known(known.as_ref(), address).proven(client.identity.clone());
    let shown = to.as_ref().map_or(client.local, |to| *to);
    let path = Path::CrossNode;
    let connection = Arc::new(describe(
        &workload,
        source,
        shown,
        Security::MutualTls,
        path,
    ));
    let taken = async {
        let to = canonical(to?);
        authorize_tunnel(&workload, &client.identity, to, client.local)?;
        let admission = pod.admit().ok_or(InboundError::TooMany)?;
        let (application, took) = connect(shared, pod, to, address).await?;
        Ok((to, application, took, admission))
    };
    let (to, application, took, _admission) = match taken.await {
        Ok(taken) => taken,
        Err(error) => {
            // A client that is gone doesn't need the answer.
            let _ = respond.send_response(answer(status(&error)), true);
            refused(shared, pod, &connection, &error, began);
            return;
        }
    };
    let send = match respond.send_response(answer(StatusCode::OK), false) {
        Ok(send) => send,
        Err(error) => {
            refused(shared, pod, &connection, &InboundError::Http2(error), began);
            return;
        }
    };
    record::opened(&shared.metrics, uid, &connection);
    let allowed = still_allowed(client.clone(), to);
    let mut entry =
        shared
            .connections
            .enter(Arc::clone(&connection), uid, pod.proxy, Some(allowed));
    let progress = Arc::clone(&entry.progress);
    let (streams, idle) = ((send, request.into_body()), shared.settings.idle);
    let outcome = tokio::select! {
        end = relay::relay_stream(application, TcpSide::Upstream, streams, &progress, idle) => {
            Outcome::ended(end, took)
        }
        () = entry.cut() => Outcome::cut(took),
    };
    record::closed(
        &shared.metrics,
        uid,
        &connection,
        &progress,
        &outcome,
        began,
    );
}

fn still_allowed(client: Client, to: SocketAddr) -> StillAllowed {
    Box::new(move |now: &Workload| {
        authorize_tunnel(now, &client.identity, to, client.local).is_ok()
    })
}

fn answer(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

/// The status that ztunnel would answer.
fn status(error: &InboundError) -> StatusCode {
    match error {
        InboundError::Tunnel(TunnelDenied::TrustDomain { .. }) | InboundError::Plaintext(_) => {
            StatusCode::UNAUTHORIZED
        }
        InboundError::Request(_)
        | InboundError::Tunnel(TunnelDenied::NotThisWorkload { .. } | TunnelDenied::ProxyPort(_)) => {
            StatusCode::BAD_REQUEST
        }
        InboundError::Connect(_)
        | InboundError::ConnectTimeout
        | InboundError::TooMany
        | InboundError::Tls(_)
        | InboundError::TlsTimeout
        | InboundError::NoCertificate
        | InboundError::Peer(_)
        | InboundError::Http2(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
