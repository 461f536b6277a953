//! The sockets of the sidecar's own network namespace: how [`Sockets`] is done there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use weft_model::OriginalDestination;
use weft_model::address::{canonical, canonical_ip};
use weft_model::authorization::PlaintextOrigin;
use weft_model::mtls::MtlsMode;
use weft_model::ports::is_mesh_port;
use weft_model::workload::WorkloadUid;
use weft_proxy::node::Node;
use weft_proxy::sockets::{Purpose, Sockets};

use super::transparent::{bind_as, can_be_shown, make_transparent};
use crate::redirect::Capture;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Sockets of the namespace that this process is in. Connections of this process are never
/// redirected, as they are of the proxy's user.
#[derive(Debug)]
pub(crate) struct PodSockets {
    node: Arc<Node>,
    pod: WorkloadUid,
    /// Addresses from which the pod's node connects, beside those that the mesh knows.
    of_node: Vec<IpAddr>,
    capture: Capture,
}

impl PodSockets {
    /// The sockets of that pod, whose node connects from those addresses, too.
    pub(crate) fn new(
        node: Arc<Node>,
        pod: WorkloadUid,
        of_node: Vec<IpAddr>,
        capture: Capture,
    ) -> Self {
        Self {
            node,
            pod,
            of_node,
            capture,
        }
    }

    fn create(address: SocketAddr) -> io::Result<Socket> {
        let kind = Type::STREAM.nonblocking().cloexec();
        Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
    }

    fn listen(address: SocketAddr, is_transparent: bool) -> io::Result<TcpListener> {
        // Redirection leads to one port, and not to one that the kernel chooses.
        if address.port() == 0 {
            let reason = "a port of the proxy's is taken in the pod: 15001, 15006 or 15008";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, reason));
        }
        let socket = Self::create(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if is_transparent {
            make_transparent(&socket, address.is_ipv4())?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// The client whose address the application shall see, where it can.
    fn shown_client(&self, purpose: Purpose, to: SocketAddr) -> Option<SocketAddr> {
        let Purpose::Application { client } = purpose else {
            return None;
        };
        if self.capture == Capture::Redirect {
            return None;
        }
        let mesh = self.node.store.snapshot();
        let pod = mesh.workload(&self.pod);
        let own = pod.map_or(&[][..], |pod| &pod.addresses);
        let (client, to) = (canonical(client), canonical_ip(to.ip()));
        can_be_shown(client.ip(), to, own).then_some(client)
    }

    /// The destination that a connection had before it was redirected.
    fn destination(accepted: &TcpStream) -> io::Result<SocketAddr> {
        let local = canonical(accepted.local_addr()?);
        let socket = SockRef::from(accepted);
        let original = match local.is_ipv4() {
            true => socket.original_dst_v4(),
            false => socket.original_dst_v6(),
        };
        let original = original?.as_socket().map(canonical);
        // Where nothing was rewritten, connection tracking says the same.
        let redirected = original.filter(|original| *original != local);
        redirected.ok_or_else(not_redirected)
    }
}

impl Sockets for PodSockets {
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        Self::listen(address, false)
    }

    fn bind_inbound(&self, loopback: SocketAddr) -> io::Result<TcpListener> {
        let any = match loopback.is_ipv4() {
            true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = SocketAddr::new(any, loopback.port());
        Self::listen(address, self.capture == Capture::Tproxy)
    }

    fn socket(&self, to: SocketAddr, purpose: Purpose) -> io::Result<TcpSocket> {
        let socket = Self::create(to)?;
        if let Some(client) = self.shown_client(purpose, to) {
            bind_as(&socket, client)?;
            return Ok(TcpSocket::from_std_stream(socket.into()));
        }
        // The kernel chooses a source port that the application may want to listen on. With
        // this option here and there, as servers have it, both can use it.
        socket.set_reuse_address(true)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    fn original_destination(&self, accepted: &TcpStream) -> io::Result<OriginalDestination> {
        Self::destination(accepted).map(OriginalDestination::new)
    }

    fn inbound_destination(&self, accepted: &TcpStream) -> io::Result<SocketAddr> {
        let destination = match self.capture {
            Capture::Redirect => Self::destination(accepted)?,
            // Nothing was rewritten.
            Capture::Tproxy => canonical(accepted.local_addr()?),
        };
        match is_mesh_port(destination.port()) {
            true => Err(not_redirected()),
            false => Ok(destination),
        }
    }

    /// No record of the kernel's is there: an address of the node is taken for kubelet's, which
    /// may do no more than its probes then. To a port that takes plaintext from anybody it may be
    /// anybody: only where policies deny it, the probes are let in.
    fn plaintext_origin(&self, accepted: &TcpStream) -> PlaintextOrigin {
        let mesh = self.node.store.snapshot();
        let pod = mesh.workload(&self.pod);
        let port = self
            .inbound_destination(accepted)
            .map(|address| address.port());
        let is_strict = pod.is_some_and(|pod| match port {
            Ok(port) => pod.mtls_mode_at(port) == MtlsMode::Strict,
            Err(_) => pod.strictest_mtls_mode() == MtlsMode::Strict,
        });
        let peer = accepted.peer_addr().map(|peer| canonical_ip(peer.ip()));
        let node = mesh.node(&self.node.name);
        let is_nodes = peer.is_ok_and(|peer| {
            let known = node.is_some_and(|node| node.addresses.contains(&peer));
            known || self.of_node.contains(&peer)
        });
        match (is_nodes, is_strict) {
            (true, true) => PlaintextOrigin::Kubelet,
            (true, false) => PlaintextOrigin::NodeAddress,
            (false, _) => PlaintextOrigin::Network,
        }
    }
}

fn not_redirected() -> io::Error {
    io::Error::other("made to a port of the proxy's own")
}
