//! The gRPC server: TLS and the three services.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use weft_proto::v1::certificates_server::CertificatesServer;
use weft_proto::v1::discovery_server::DiscoveryServer;

use super::accept::{StrangerLimits, accept};
use super::certificates::CertificatesService;
use super::discovery::DiscoveryService;
use crate::rate_limit::RateLimitService;

/// Room for connections of which no token was seen yet. Agents behind one address are few, and
/// strangers no more once they have called. Their messages wait in memory until it is known whose
/// they are: at first an agent sends no more than a window.
const STRANGERS: StrangerLimits = StrangerLimits {
    all: 512,
    of_one: 128,
    patience: Some(Duration::from_secs(15)),
    bytes: WINDOW as u64 + 128 * 1024,
};
/// Bytes of one connection, and of one call, that may be on their way.
const WINDOW: u32 = 512 * 1024;
/// Largest request for a certificate, in bytes.
const LARGEST_SIGN_REQUEST: usize = 64 * 1024;
/// Calls that one connection may have under way: an agent has a stream, asks for certificates,
/// and asks the rate limit service.
const MOST_STREAMS: u32 = 256;
/// Largest list of headers of a call, in bytes: a token is the largest.
const LARGEST_HEADERS: u32 = 16 * 1024;
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
        STRANGERS,
        connections,
    ));
    let mut told_to_stop = stopping.clone();
    let certificates = CertificatesServer::new(services.certificates);
    let certificates = certificates.max_decoding_message_size(LARGEST_SIGN_REQUEST);
    let serving = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(MOST_STREAMS)
        .http2_max_header_list_size(LARGEST_HEADERS)
        .add_service(DiscoveryServer::new(services.discovery))
        .add_service(certificates)
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
