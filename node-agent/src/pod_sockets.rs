//! The sockets of one pod, opened from the node: how [`Sockets`] is done there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use weft_ebpf_common::address_for_client;
use weft_model::OriginalDestination;
use weft_model::authorization::PlaintextOrigin;
use weft_proxy::sockets::{Purpose, Sockets, bind_source};

use crate::namespaces::NetworkNamespace;
use crate::redirect::SocketMaps;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// The loopback interface of every namespace.
const LOOPBACK: &[u8] = b"lo";
/// An address that is the namespace's own only where all of 127.0.0.0/8 is.
const LAST_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

/// Sockets in a pod's network namespace. Keeps the namespace alive: drop it, and every
/// socket made by it, when the pod is gone.
#[derive(Debug)]
pub struct PodSockets {
    namespace: NetworkNamespace,
    maps: Arc<SocketMaps>,
}

impl PodSockets {
    /// For a pod's namespace, with the maps of the loaded programs.
    pub fn new(namespace: NetworkNamespace, maps: Arc<SocketMaps>) -> Self {
        Self { namespace, maps }
    }

    /// The pod's namespace.
    pub fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// A socket in the namespace. Everything but its creation can be done from outside.
    fn create(&self, address: SocketAddr) -> io::Result<Socket> {
        let create = || {
            let kind = Type::STREAM.nonblocking().cloexec();
            Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
        };
        self.namespace.run(create)?
    }
}

impl Sockets for PodSockets {
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.create(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        listen(socket, address)
    }

    fn bind_to_loopback(&self, port: u16) -> io::Result<TcpListener> {
        let alone = (Ipv4Addr::LOCALHOST, port).into();
        if !self.namespace.run(is_loopback_whole)?? {
            return self.bind(alone);
        }
        let any = (Ipv4Addr::UNSPECIFIED, port).into();
        let socket = self.create(any)?;
        // What arrives from outside never arrives there.
        socket.bind_device(Some(LOOPBACK))?;
        match listen(socket, any) {
            // The application listens on another address.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.bind(alone),
            result => result,
        }
    }

    fn socket(&self, to: SocketAddr, purpose: Purpose) -> io::Result<TcpSocket> {
        let socket = self.create(to)?;
        // The kernel chooses a source port that the application may want to listen on. With
        // this option here and there, as servers have it, both can use it.
        socket.set_reuse_address(true)?;
        match purpose {
            Purpose::Upstream => self.maps.mark_upstream(socket.as_fd())?,
            Purpose::Application { client } => {
                self.maps.mark_application(socket.as_fd(), client)?;
            }
        }
        let socket = TcpSocket::from_std_stream(socket.into());
        if let (Purpose::Application { client }, IpAddr::V4(_)) = (purpose, to.ip()) {
            let source = address_for_client(&client.into());
            if let Err(error) = bind_source(&socket, source.into()) {
                // The namespace has less than 127.0.0.0/8: then it is the pod's own address.
                tracing::debug!(%error, "a client's connections share source ports with others'");
            }
        }
        Ok(socket)
    }

    fn original_destination(&self, accepted: &TcpStream) -> io::Result<OriginalDestination> {
        self.maps.original_destination(accepted.as_fd())
    }

    fn plaintext_origin(&self, accepted: &TcpStream) -> PlaintextOrigin {
        self.maps.origin(accepted.as_fd())
    }
}

fn listen(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    // A connection given to this listener takes a local port that it never bound; without
    // this option the application could not bind that port any more.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether all of 127.0.0.0/8 is local, as it is unless somebody has changed the addresses of
/// the loopback interface. Asks the kernel for a route; nothing is sent.
fn is_loopback_whole() -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Any port will do. Without a route it fails.
    let routed = socket.connect((LAST_LOOPBACK, 9));
    Ok(routed.is_ok() && socket.local_addr()?.ip().is_loopback())
}
