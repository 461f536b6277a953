//! Handshakes of tunnel connections, and the reason when one fails.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// The client end of a tunnel connection.
pub(crate) type ClientTls = client::TlsStream<TcpStream>;
/// The server end of a tunnel connection.
pub(crate) type ServerTls = server::TlsStream<TcpStream>;

/// Bytes that may wait, encrypted, for the socket.
const SEND_BUFFER: usize = 256 * 1024;

/// Handshakes as the client end. The server is verified by its SPIFFE ID; there is no
/// host name to check.
///
/// # Errors
/// When the handshake fails; [`handshake_failure`] says why.
pub(crate) async fn connect(tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<ClientTls> {
    let nameless = IpAddr::from(Ipv4Addr::UNSPECIFIED).into();
    let mut tls = TlsConnector::from(config).connect(nameless, tcp).await?;
    tls.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
    Ok(tls)
}

/// Handshakes as the server end.
///
/// # Errors
/// When the handshake fails; [`handshake_failure`] says why.
pub(crate) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<ServerTls> {
    let mut tls = TlsAcceptor::from(config).accept(tcp).await?;
    tls.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
    Ok(tls)
}

/// The reason of a failed handshake: our own verifiers' words, which rustls would print
/// as a structure, or its own.
pub(crate) fn handshake_failure(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(ours))) => {
            ours.0.to_string()
        }
        _ => error.to_string(),
    }
}
