//! The gRPC server: TLS and the three services.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use weft_proto::v1::certificates_server::CertificatesServer;
use weft_proto::v1::discovery_server::DiscoveryServer;

use super::certificates::CertificatesService;
use super::discovery::DiscoveryService;
use crate::rate_limit::RateLimitService;

/// Time limit of a client's handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two pings to an agent, and time limit of an answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));

/// Time limit for agents to close their connections when the server stops: their
/// streams have been ended by then.
const DRAIN: Duration = Duration::from_secs(5);

/// The services of the server.
pub(crate) struct Services {
    pub(crate) discovery: DiscoveryService,
    pub(crate) certificates: CertificatesService,
    pub(crate) rate_limits: RateLimitService,
}

/// Serves until `stopping` turns true, and everybody has closed, or was given the time.
///
/// # Errors
/// When the server itself fails; a client's failure is its own.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    services: Services,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let (connections, incoming) = mpsc::channel(64);
    let accepting = tokio::spawn(accept(
        listener,
        TlsAcceptor::from(Arc::new(tls)),
        connections,
    ));
    let mut told_to_stop = stopping.clone();
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(DiscoveryServer::new(services.discovery))
        .add_service(CertificatesServer::new(services.certificates))
        .add_service(services.rate_limits.into_server())
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async move {
            // A sender that is gone means the same.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        });
    let out_of_time = async {
        let _ = told_to_stop.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(DRAIN).await;
    };
    let served = tokio::select! {
        served = serving => served,
        () = out_of_time => {
            tracing::warn!("some agents have not closed their connections in time");
            Ok(())
        }
    };
    accepting.abort();
    served
}

/// Handshakes beside each other, so that a slow client holds up nobody.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting connections");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    // The server is stopping when nobody takes it.
                    let _ = connections.send(Ok(stream)).await;
                }
                Ok(Err(error)) => tracing::warn!(%peer, %error, "TLS handshake"),
                Err(_) => tracing::warn!(%peer, "TLS handshake took too long"),
            }
        });
    }
}
