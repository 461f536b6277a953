//! The sockets of one pod, opened from the node: how [`Sockets`] is done there.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use weft_model::OriginalDestination;
use weft_model::authorization::PlaintextOrigin;
use weft_proxy::sockets::{Purpose, Sockets};

use crate::namespaces::NetworkNamespace;
use crate::redirect::SocketMaps;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

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
        // A connection given to this listener takes a local port that it never bound; without
        // this option the application could not bind that port any more.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
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
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    fn original_destination(&self, accepted: &TcpStream) -> io::Result<OriginalDestination> {
        self.maps.original_destination(accepted.as_fd())
    }

    fn plaintext_origin(&self, accepted: &TcpStream) -> PlaintextOrigin {
        self.maps.origin(accepted.as_fd())
    }
}
