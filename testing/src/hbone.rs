//! Either end of a tunnel (HBONE), by hand: with certificates and requests that no proxy of
//! ours would send.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::authority::Credential;
use crate::tls;

/// A client's end, once its request was answered.
#[derive(Debug)]
pub struct Tunnel {
    /// The answer's status.
    pub status: StatusCode,
    send: SendStream<Bytes>,
    receive: RecvStream,
}

/// A client of TLS 1.3 that presents this certificate, or none, and believes every server.
pub fn client(presented: Option<&Credential>) -> ClientConfig {
    tls::client_that_trusts_anyone(presented, &rustls::version::TLS13, &["h2"])
}

/// The request for a tunnel to this destination.
pub fn connect(to: SocketAddr) -> Request<()> {
    let request = Request::builder().method(Method::CONNECT);
    request.uri(to.to_string()).body(()).unwrap()
}

/// A connection for tunnels, driven by a task.
#[derive(Debug)]
pub struct Connection(SendRequest<Bytes>);

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// With the step that failed.
    pub async fn open(gateway: SocketAddr, config: ClientConfig) -> Result<Self, String> {
        let tcp = TcpStream::connect(gateway).await;
        let tcp = tcp.map_err(failed("connect"))?;
        let name = ServerName::IpAddress(gateway.ip().into());
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let handshake = h2::client::handshake(tls.await.map_err(failed("TLS"))?).await;
        let (requests, connection) = handshake.map_err(failed("HTTP/2"))?;
        tokio::spawn(connection);
        Ok(Self(requests))
    }

    /// Asks for a tunnel, as soon as one more may be there, and awaits no answer.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn ask(&self, to: SocketAddr) -> Result<UnreadTunnel, String> {
        let ready = self.0.clone().ready().await;
        let mut requests = ready.map_err(failed("HTTP/2"))?;
        let sent = requests.send_request(connect(to), false);
        let (response, send) = sent.map_err(failed("CONNECT"))?;
        Ok(UnreadTunnel {
            _response: response,
            send,
        })
    }
}

/// A tunnel of which its client reads nothing.
#[derive(Debug)]
pub struct UnreadTunnel {
    _response: ResponseFuture,
    send: SendStream<Bytes>,
}

impl UnreadTunnel {
    /// Sends as much of it as the other side takes, now or later.
    ///
    /// # Errors
    /// When the connection or the tunnel has ended.
    pub fn send(&mut self, data: Bytes) -> Result<(), String> {
        self.send.send_data(data, false).map_err(failed("send"))
    }

    /// Resets it.
    pub fn reset(mut self) {
        self.send.send_reset(h2::Reason::CANCEL);
    }
}

impl Tunnel {
    /// Opens a tunnel on a connection of its own.
    ///
    /// # Errors
    /// With the step that failed, when no answer came.
    pub async fn open(
        gateway: SocketAddr,
        config: ClientConfig,
        request: Request<()>,
    ) -> Result<Self, String> {
        let Connection(requests) = Connection::open(gateway, config).await?;
        let mut requests = requests.ready().await.map_err(failed("HTTP/2"))?;
        let sent = requests.send_request(request, false);
        let (response, send) = sent.map_err(failed("CONNECT"))?;
        let (head, receive) = response.await.map_err(failed("response"))?.into_parts();
        Ok(Self {
            status: head.status,
            send,
            receive,
        })
    }

    /// Sends a text and the end, and reads all that comes back.
    ///
    /// # Errors
    /// With the status, when the tunnel was refused, and when it breaks.
    pub async fn exchange(self, text: &str) -> Result<String, String> {
        self.send(text, true).await
    }

    /// Sends a text, and reads all that comes back. The end is the other side's: many servers of
    /// HTTP take that of their client for its leaving.
    ///
    /// # Errors
    /// With the status, when the tunnel was refused, and when it breaks.
    pub async fn request(self, text: &str) -> Result<String, String> {
        self.send(text, false).await
    }

    async fn send(mut self, text: &str, ends: bool) -> Result<String, String> {
        if self.status != StatusCode::OK {
            return Err(format!("status {}", self.status));
        }
        let text = Bytes::copy_from_slice(text.as_bytes());
        self.send.send_data(text, ends).map_err(failed("send"))?;
        let mut answer = Vec::new();
        while let Some(data) = self.receive.data().await {
            let data = data.map_err(failed("receive"))?;
            // Fails once the stream has ended, when it doesn't matter.
            let _ = self.receive.flow_control().release_capacity(data.len());
            answer.extend_from_slice(&data);
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn failed<E: Display>(step: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{step}: {error}")
}

/// Serves one connection of tunnels as the proxy that has this certificate: each tunnel
/// gets the answer, as if an application had sent it.
pub async fn serve(stream: TcpStream, presented: &Credential, answer: &'static str) {
    // A client that goes away is what tests are about.
    let _ = serve_connection(stream, presented, answer).await;
}

async fn serve_connection(
    stream: TcpStream,
    presented: &Credential,
    answer: &'static str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(presented, &["h2"])));
    let mut connection = h2::server::handshake(acceptor.accept(stream).await?).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        tokio::spawn(async move {
            let mut stream = respond.send_response(Response::new(()), false)?;
            // As an application does: the answer comes after the question.
            let mut question = request.into_body();
            question.data().await;
            stream.send_data(Bytes::from_static(answer.as_bytes()), true)?;
            while question.data().await.is_some() {}
            Ok::<_, h2::Error>(())
        });
    }
    Ok(())
}
