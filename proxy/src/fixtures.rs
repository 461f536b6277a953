//! What the tests of the transport run on: real TCP, TLS and HTTP/2 on loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_model::authorization::PlaintextOrigin;
use weft_model::{OriginalDestination, SpiffeId};
use weft_testing::authority::Authority;
use weft_testing::control_plane::{FakeControlPlane, SERVER_NAME};
use weft_testing::fixtures::identity;
use weft_testing::tcp;
use weft_testing::wait::in_time;

use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::identity::{Certificate, CertificateStore};
use crate::sockets::{Purpose, Sockets, set_data_path_options};
use crate::stream::Stream;
use crate::tls;
use crate::tunnel::hbone::server::{HboneServer, TunnelRequest};
use crate::tunnel::{ConnectionTimes, TunnelError, TunnelPeer, TunnelPool, TunnelStream};

/// Both ends of a TCP connection with the data path's options: the client's and the
/// accepted one.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let (client, accepted) = tcp::pair().await;
    set_data_path_options(&client);
    set_data_path_options(&accepted);
    (client, accepted)
}

/// Both ends of a TLS connection.
pub(crate) async fn tls_pair() -> (Stream, Stream) {
    let (authority, identity) = (Authority::new(), identity("server"));
    let certificate = certificate(&authority, &identity);
    let server = TlsAcceptor::from(Arc::new(tls::server_config(&certificate).unwrap()));
    let client = Arc::new(tls::client_config(&certificate, &identity).unwrap());
    let (client_tcp, server_tcp) = tcp_pair().await;
    let name = Ipv4Addr::LOCALHOST.to_string().try_into().unwrap();
    let client = TlsConnector::from(client).connect(name, client_tcp);
    let (client, server) = tokio::join!(client, server.accept(server_tcp));
    let (client, server) = (client.unwrap().into(), server.unwrap().into());
    (Stream::Tls(Box::new(client)), Stream::Tls(Box::new(server)))
}

/// Both ends of a tunnel's stream, on a connection of its own: the client's and the
/// accepted one.
pub(crate) async fn tunnel_pair() -> (TunnelStream, TunnelStream) {
    TunnelFixture::new().await.open_accepted().await
}

/// The application's end of every tunnel.
pub(crate) const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4242);
/// The destination of every tunnel.
pub(crate) const DESTINATION: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);

/// A good certificate of a workload.
pub(crate) fn certificate(authority: &Authority, identity: &SpiffeId) -> Certificate {
    let issued = authority.workload(identity);
    Certificate {
        key: issued.certified_key(),
        identity: identity.clone(),
        roots: authority.roots(),
        not_after: issued.not_after,
        serial: String::new(),
    }
}

/// How an agent of a control plane reaches it.
pub(crate) fn options_for(server: &FakeControlPlane) -> ControlPlaneOptions {
    ControlPlaneOptions {
        address: server.address(),
        server_name: SERVER_NAME.into(),
        root_certificates: server.root_file(),
        token_file: server.token_file(),
    }
}

/// The client's side of a control plane.
pub(crate) fn client_of(server: &FakeControlPlane) -> ControlPlane {
    ControlPlane::new(options_for(server)).unwrap()
}

/// Sockets of this process's own namespace.
#[derive(Debug, Default)]
pub(crate) struct LoopbackSockets {
    /// Sockets that were asked for to connect.
    pub(crate) dials: AtomicUsize,
}

impl Sockets for LoopbackSockets {
    fn bind(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn socket(&self, _to: SocketAddr, _purpose: Purpose) -> io::Result<TcpSocket> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        TcpSocket::new_v4()
    }

    fn original_destination(&self, accepted: &TcpStream) -> io::Result<OriginalDestination> {
        accepted.local_addr().map(OriginalDestination::new)
    }

    fn plaintext_origin(&self, _accepted: &TcpStream) -> PlaintextOrigin {
        PlaintextOrigin::Network
    }
}

/// A client's pool, and the proxy of a peer that takes tunnels.
pub(crate) struct TunnelFixture {
    pub(crate) authority: Authority,
    pub(crate) certificates: Arc<CertificateStore>,
    pub(crate) sockets: LoopbackSockets,
    pub(crate) pool: TunnelPool,
    pub(crate) peer: TunnelPeer,
    /// Requests that arrived at the peer.
    pub(crate) requests: mpsc::UnboundedReceiver<TunnelRequest>,
    /// What the peer's connections are told, in the order that they were accepted.
    pub(crate) connections: mpsc::UnboundedReceiver<mpsc::UnboundedSender<Order>>,
}

/// What a connection of the peer is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// To take no further streams.
    Drain,
    /// To break.
    Die,
}

impl TunnelFixture {
    pub(crate) async fn new() -> Self {
        Self::with_idle(Duration::from_secs(60)).await
    }

    /// With a pool whose connections live for that long without a stream.
    pub(crate) async fn with_idle(idle: Duration) -> Self {
        let authority = Authority::new();
        let certificates = Arc::<CertificateStore>::default();
        for name in ["client", "server"] {
            certificates.publish(Arc::new(certificate(&authority, &identity(name))));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gateway = listener.local_addr().unwrap();
        let ((requests, received), (orders, connections)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let server = certificates.current(&identity("server")).unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                set_data_path_options(&tcp);
                let (order, ordered) = mpsc::unbounded_channel();
                let _ = orders.send(order);
                let config = Arc::new(tls::server_config(&server).unwrap());
                tokio::spawn(serve(tcp, config, requests.clone(), ordered));
            }
        });
        Self {
            pool: TunnelPool::new(
                identity("client"),
                Arc::clone(&certificates),
                ConnectionTimes { idle, head: None },
                Arc::default(),
                Arc::default(),
                tokio::sync::watch::Sender::default().subscribe(),
            ),
            authority,
            certificates,
            sockets: LoopbackSockets::default(),
            peer: TunnelPeer {
                identity: identity("server"),
                gateway,
                workload: "server-1".into(),
            },
            requests: received,
            connections,
        }
    }

    /// Opens a stream to the peer.
    pub(crate) async fn open(&self) -> Result<TunnelStream, TunnelError> {
        let opened = self
            .pool
            .open(&self.sockets, &self.peer, DESTINATION, CLIENT);
        in_time(opened).await
    }

    /// Opens a stream that the peer accepts: its opened and its accepted end.
    pub(crate) async fn open_accepted(&mut self) -> (TunnelStream, TunnelStream) {
        let (pool, sockets, peer) = (&self.pool, &self.sockets, &self.peer);
        let opened = pool.open(sockets, peer, DESTINATION, CLIENT);
        let accepted = async { self.requests.recv().await.unwrap().accept().unwrap() };
        let (opened, accepted) = in_time(async { tokio::join!(opened, accepted) }).await;
        (opened.unwrap(), accepted)
    }

    /// Connections that were dialled so far.
    pub(crate) fn dials(&self) -> usize {
        self.sockets.dials.load(Ordering::Relaxed)
    }
}

async fn serve(
    tcp: TcpStream,
    config: Arc<rustls::ServerConfig>,
    requests: mpsc::UnboundedSender<TunnelRequest>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let Ok(tls) = tls::handshake::accept(tcp, config).await else {
        return;
    };
    let Ok(mut server) = HboneServer::handshake(tls, &Arc::default(), None).await else {
        return;
    };
    loop {
        tokio::select! {
            request = server.accept() => match request {
                Some(Ok(request)) => drop(requests.send(request)),
                Some(Err(_)) | None => return,
            },
            Some(order) = orders.recv() => match order {
                Order::Drain => server.graceful_shutdown(),
                Order::Die => return,
            },
        }
    }
}
