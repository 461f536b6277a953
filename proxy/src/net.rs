//! Where sockets live: the one thing that differs between a node's proxy, which
//! serves many network namespaces, and a sidecar, which serves its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use weft_model::OriginalDestination;
use weft_model::authorization::PlaintextOrigin;

/// What a connection that the proxy itself opens is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To a destination on the network, from the pod's own address.
    Upstream,
    /// To the pod's own application, which shall see `client` as its peer.
    Application {
        /// Who the application's peer really is.
        client: SocketAddr,
    },
}

/// The sockets of one pod.
pub trait Net: Send + Sync + 'static {
    /// A non-blocking listener in the pod's namespace. It sets SO_REUSEADDR, and an
    /// IPv6 one takes IPv6 only.
    ///
    /// # Errors
    /// Whatever the kernel answers; a namespace without IPv6 refuses `[::1]`.
    fn bind(&self, address: SocketAddr) -> io::Result<std::net::TcpListener>;

    /// A connection from the pod's namespace that is itself never captured.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    fn connect(
        &self,
        to: SocketAddr,
        purpose: Purpose,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// Where a captured connection was going.
    ///
    /// # Errors
    /// When the connection was not captured, but made to the proxy's port directly.
    fn original_destination(&self, accepted: &TcpStream) -> io::Result<OriginalDestination>;

    /// Who opened an accepted plaintext connection, as the kernel recorded it.
    fn origin(&self, accepted: &TcpStream) -> PlaintextOrigin;
}
