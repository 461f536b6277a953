//! The sockets of one pod: the one thing that differs between a node's proxy, which
//! serves many network namespaces, and a sidecar, which serves its own.

mod tcp_statistics;

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use weft_model::OriginalDestination;
use weft_model::authorization::PlaintextOrigin;

pub(crate) use self::tcp_statistics::TcpStatistics;

/// Silence after which the kernel asks whether a peer is still there (tcp(7), TCP_KEEPIDLE).
/// Together with the probes, a peer that is gone without a word is found within two minutes,
/// and middleboxes that forget silent connections are kept awake.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between two probes (TCP_KEEPINTVL).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered probes after which the connection is broken (TCP_KEEPCNT).
const KEEPALIVE_PROBES: u32 = 4;

/// Use of a connection that the proxy itself opens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To a destination on the network, from the pod's own address.
    Upstream,
    /// To the pod's own application, which shall see `client` as its peer.
    Application {
        /// The real client's address.
        client: SocketAddr,
    },
}

/// The sockets of one pod.
pub trait Sockets: Debug + Send + Sync + 'static {
    /// A non-blocking listener in the pod's namespace. It sets SO_REUSEADDR, and an
    /// IPv6 one takes IPv6 only.
    ///
    /// # Errors
    /// Whatever the kernel answers; a namespace without IPv6 refuses `[::1]`.
    fn bind(&self, address: SocketAddr) -> io::Result<std::net::TcpListener>;

    /// The same on all of 127.0.0.0/8 where that can be, else on 127.0.0.1. Nobody outside of
    /// the namespace reaches it.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    fn bind_to_loopback(&self, port: u16) -> io::Result<std::net::TcpListener> {
        self.bind((Ipv4Addr::LOCALHOST, port).into())
    }

    /// A listener for connections that arrive for the pod, on a loopback address where the
    /// kernel hands them over by the socket.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    fn bind_inbound(&self, loopback: SocketAddr) -> io::Result<std::net::TcpListener> {
        self.bind(loopback)
    }

    /// A socket for a connection to `to` from the pod's namespace, prepared for its
    /// purpose and not connected yet. The connection is never captured itself, and, by
    /// SO_REUSEADDR, its source port is no obstacle to an application that listens there.
    ///
    /// # Errors
    /// Whatever the kernel answers, such as that the process has no descriptor left.
    fn socket(&self, to: SocketAddr, purpose: Purpose) -> io::Result<TcpSocket>;

    /// The destination that a captured connection was made to.
    ///
    /// # Errors
    /// When the connection was not captured, but made to the proxy's port directly.
    fn original_destination(&self, accepted: &TcpStream) -> io::Result<OriginalDestination>;

    /// The address of the pod that a plaintext connection was made to: the accepted socket's
    /// own, unless it was rewritten on its way.
    ///
    /// # Errors
    /// When nobody knows it, or it was made to the proxy's port directly.
    fn inbound_destination(&self, accepted: &TcpStream) -> io::Result<SocketAddr> {
        accepted.local_addr()
    }

    /// The origin of an accepted plaintext connection, as the kernel recorded it.
    fn plaintext_origin(&self, accepted: &TcpStream) -> PlaintextOrigin;
}

/// Opens a connection from the pod's namespace, with the options of the data path set.
///
/// # Errors
/// Whatever the kernel answers, or [`io::ErrorKind::TimedOut`] after `limit`.
pub async fn connect(
    sockets: &dyn Sockets,
    to: SocketAddr,
    purpose: Purpose,
    limit: Duration,
) -> io::Result<TcpStream> {
    connect_from(sockets, None, to, purpose, limit).await
}

/// Does the same from a source address, of the destination's family. The kernel chooses
/// instead of one that the namespace doesn't have, to which an application may have bound with
/// `IP_FREEBIND` or `IP_TRANSPARENT` (ip(7)).
///
/// # Errors
/// As [`connect`].
pub async fn connect_from(
    sockets: &dyn Sockets,
    source: Option<IpAddr>,
    to: SocketAddr,
    purpose: Purpose,
    limit: Duration,
) -> io::Result<TcpStream> {
    let socket = sockets.socket(to, purpose)?;
    if let Some(source) = source
        && let Err(error) = bind_source(&socket, source)
    {
        tracing::debug!(%error, %source, "the kernel chooses the source");
    }
    let connected = tokio::time::timeout(limit, socket.connect(to)).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    set_data_path_options(&stream);
    Ok(stream)
}

/// Binds a socket to an address. Its port is chosen when the other end is known: else the ports
/// of one address would be those of all destinations together.
///
/// # Errors
/// Whatever the kernel answers, such as that the namespace doesn't have the address.
pub fn bind_source(socket: &TcpSocket, source: IpAddr) -> io::Result<()> {
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::new(source, 0))
}

/// Sets the options of every connection of the data path: no delay for small writes,
/// keepalive, and urgent data in line (RFC 6093 section 3.4), which reading would otherwise
/// skip. What is accepted has those of its listener. Failing to set one is no reason to refuse the
/// connection.
pub(crate) fn set_data_path_options(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_out_of_band_inline(true));
    if let Err(error) = set {
        tracing::debug!(%error, "socket options");
    }
}

/// Takes off the filter of the listener that a connection was accepted from, which would go on
/// to look at each of its segments (socket(7), SO_DETACH_FILTER).
pub(crate) fn detach_filter(accepted: &TcpStream) {
    // Most often the error says that there is none.
    let _ = SockRef::from(accepted).detach_filter();
}

/// Makes the end of this connection tell its peer that it broke (RST), not that it
/// finished (FIN).
pub(crate) fn reset_on_close(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a broken connection will end by FIN instead of RST");
    }
}

/// Whether the other end of a connection, which it has ended, has not received all that was
/// sent: its kernel has acknowledged less, or answered that the connection is closed (RST).
/// Whoever closed it has then not read the rest.
pub(crate) fn has_unacknowledged(stream: &TcpStream) -> bool {
    // Once its end was read, what else the kernel has to say is a reset.
    stream.take_error().is_ok_and(|error| error.is_some()) || unacknowledged(stream) > 0
}

/// Whether the other end's kernel has not acknowledged all that was sent.
pub(crate) fn is_on_its_way(stream: &TcpStream) -> bool {
    unacknowledged(stream) > 0
}

/// Whether the other end's kernel has acknowledged nothing but the connection itself, whatever
/// was sent: nobody can have read any of it.
pub(crate) fn is_unread(stream: &TcpStream) -> bool {
    // The SYN counts, too.
    TcpStatistics::of(stream).is_some_and(|statistics| statistics.delivered_bytes <= 1)
}

/// Bytes that were sent, or wait for that, and were not acknowledged (tcp(7), SIOCOUTQ).
fn unacknowledged(stream: &TcpStream) -> libc::c_int {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while `stream` is borrowed, and the kernel writes one
    // integer to `bytes`.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::Socket;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Both ends of a connection; the first has the options of the data path.
    fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let near = TcpStream::from_std(near).unwrap();
        set_data_path_options(&near);
        (near, listener.accept().unwrap().0.into())
    }

    #[tokio::test]
    async fn an_urgent_byte_arrives_in_line() {
        let (mut near, far) = pair();
        assert_eq!(far.send(b"AB").unwrap(), 2);
        assert_eq!(far.send_out_of_band(b"!").unwrap(), 1);
        assert_eq!(far.send(b"CD").unwrap(), 2);
        drop(far);
        let mut received = String::new();
        near.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "AB!CD");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_found_within_two_minutes() {
        let (near, _far) = pair();
        let socket = SockRef::from(&near);
        assert!(socket.keepalive().unwrap());
        let probes = socket.tcp_keepalive_interval().unwrap();
        let probes = probes * socket.tcp_keepalive_retries().unwrap();
        let found = socket.tcp_keepalive_time().unwrap() + probes;
        assert!(found <= Duration::from_secs(120), "{found:?}");
    }
}
