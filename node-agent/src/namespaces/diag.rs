//! Sockets of a network namespace, listed and ended by the kernel's sock_diag(7).

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::network_namespace::NetworkNamespace;

/// Message types and flags (`linux/netlink.h`, `linux/sock_diag.h`).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// Bytes of `struct nlmsghdr`, `inet_diag_sockid` and `inet_diag_msg`.
const HEADER: usize = 16;
const ID: usize = 48;
const MESSAGE: usize = 72;
/// Place of the interface in `struct inet_diag_sockid`.
const INTERFACE: usize = 36;
/// Bytes of `struct nlattr`, and the attribute that we read.
const ATTRIBUTE: usize = 4;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// The kernel sends no more at once.
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state of a TCP socket (`net/tcp_states.h`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TcpState(u8);

impl TcpState {
    pub(crate) const ESTABLISHED: Self = Self(1);
    pub(crate) const SYN_RECV: Self = Self(3);
    #[cfg(test)]
    pub(crate) const FIN_WAIT_1: Self = Self(4);
    pub(crate) const TIME_WAIT: Self = Self(6);
    #[cfg(test)]
    pub(crate) const CLOSE_WAIT: Self = Self(8);
    pub(crate) const LISTEN: Self = Self(10);
    /// A set of all of them, one bit each.
    const ALL: u32 = u32::MAX;

    /// The set of this one.
    const fn alone(self) -> u32 {
        1 << self.0
    }
}

/// A TCP socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpSocket {
    /// Canonical: IPv4 also where the socket is one of IPv6.
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) state: TcpState,
    /// Zero where no process has it (any more, or yet).
    pub(crate) inode: u32,
    /// The interface that it is bound to, 0 for none.
    pub(crate) interface: u32,
    /// One of IPv6 that listens, and takes no connections of IPv4.
    pub(crate) is_only_v6: bool,
    family: u8,
    /// The kernel's name for it, `struct inet_diag_sockid`.
    id: [u8; ID],
}

#[cfg(test)]
impl TcpSocket {
    pub(crate) fn established(local: SocketAddr, peer: SocketAddr) -> Self {
        Self {
            local,
            peer,
            state: TcpState::ESTABLISHED,
            inode: 0,
            interface: 0,
            is_only_v6: false,
            family: libc::AF_INET as u8,
            id: [0; ID],
        }
    }
}

/// A conversation with the kernel about the sockets of one namespace.
#[derive(Debug)]
pub(crate) struct Diag(Socket);

impl Diag {
    /// Begins one.
    ///
    /// # Errors
    /// When the namespace can't be entered, or the kernel has no such thing.
    pub(crate) fn open(namespace: &NetworkNamespace) -> io::Result<Self> {
        let create = || {
            let kind = Type::RAW.cloexec();
            let protocol = Some(Protocol::from(libc::NETLINK_SOCK_DIAG));
            Socket::new(Domain::from(libc::AF_NETLINK), kind, protocol)
        };
        let socket = namespace.run(create)??;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Shows the TCP sockets of the namespace one after another, in every state.
    ///
    /// # Errors
    /// When the kernel doesn't list them.
    pub(crate) fn for_each_socket(&self, show: impl FnMut(TcpSocket)) -> io::Result<()> {
        self.list(TcpState::ALL, show)
    }

    /// Those that listen, which are found without a look at the connections of the machine.
    ///
    /// # Errors
    /// When the kernel doesn't list them.
    pub(crate) fn listening_sockets(&self) -> io::Result<Vec<TcpSocket>> {
        let mut sockets = Vec::new();
        self.list(TcpState::LISTEN.alone(), |socket| sockets.push(socket))?;
        Ok(sockets)
    }

    fn list(&self, states: u32, mut show: impl FnMut(TcpSocket)) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let flags = NLM_F_REQUEST | NLM_F_DUMP;
            let request = request(SOCK_DIAG_BY_FAMILY, flags, family as u8, states, &[0; ID]);
            (&self.0).write_all(&request)?;
            self.receive(|body| parse(body).into_iter().for_each(&mut show))?;
        }
        Ok(())
    }

    /// Ends a connection; its peer gets a reset.
    ///
    /// # Errors
    /// `ENOENT` when there is no such socket any more, `EOPNOTSUPP` where the kernel was built
    /// without `CONFIG_INET_DIAG_DESTROY`.
    pub(crate) fn end(&self, socket: &TcpSocket) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        let states = TcpState::ALL;
        let request = request(SOCK_DESTROY, flags, socket.family, states, &socket.id);
        (&self.0).write_all(&request)?;
        self.receive(|_| {})
    }

    /// Reads messages up to the last one of an answer.
    fn receive(&self, mut handle: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = (&self.0).read(&mut buffer)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, next)) = message(rest) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return acknowledgement(body),
                    _ => handle(body),
                }
                rest = next;
            }
        }
    }
}

/// `struct nlmsghdr` and `inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 8 + ID);
    bytes.extend(((HEADER + 8 + ID) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence and port: one question at a time, and the kernel knows where to.
    bytes.extend([0; 8]);
    bytes.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The first message of a buffer: its type, its body, and what comes after it.
fn message(buffer: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*buffer.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*buffer.get(4..)?.first_chunk()?);
    let body = buffer.get(HEADER..length)?;
    // Messages begin at multiples of four.
    let next = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// The error of an acknowledgement, zero for success.
fn acknowledgement(body: &[u8]) -> io::Result<()> {
    let number = body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
    match number {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `struct inet_diag_msg`; nothing when it is cut short.
fn parse(body: &[u8]) -> Option<TcpSocket> {
    let attributes = body.get(MESSAGE..).unwrap_or_default();
    let body: &[u8; MESSAGE] = body.first_chunk()?;
    let [family, state, ..] = *body;
    let id: [u8; ID] = *body.get(4..)?.first_chunk()?;
    let port = |at: usize| Some(u16::from_be_bytes(*id.get(at..)?.first_chunk()?));
    let ip = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = *id.get(at..)?.first_chunk()?;
        let [a, b, c, d, ..] = bytes;
        Some(match i32::from(family) {
            libc::AF_INET => Ipv4Addr::new(a, b, c, d).into(),
            _ => Ipv6Addr::from(bytes).to_canonical(),
        })
    };
    Some(TcpSocket {
        local: SocketAddr::new(ip(4)?, port(0)?),
        peer: SocketAddr::new(ip(20)?, port(2)?),
        state: TcpState(state),
        inode: u32::from_ne_bytes(*body.last_chunk()?),
        interface: u32::from_ne_bytes(*id.get(INTERFACE..)?.first_chunk()?),
        is_only_v6: attribute(attributes, INET_DIAG_SKV6ONLY) == Some(1),
        family,
        id,
    })
}

/// The first byte of an attribute (`struct nlattr`).
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<u8> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(ATTRIBUTE..length)?;
        if kind == wanted {
            return value.first().copied();
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_read_as_the_kernel_writes_it() {
        let mut body = [0; MESSAGE];
        body[..2].copy_from_slice(&[libc::AF_INET6 as u8, 1]);
        body[4..8].copy_from_slice(&[0x1f, 0x90, 0x9c, 0x40]);
        body[8..24].copy_from_slice(&"::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets());
        body[24..40].copy_from_slice(&"fd09::2".parse::<Ipv6Addr>().unwrap().octets());
        body[68..].copy_from_slice(&77u32.to_ne_bytes());
        let socket = parse(&body).unwrap();
        assert_eq!(socket.local, "10.0.0.1:8080".parse().unwrap());
        assert_eq!(socket.peer, "[fd09::2]:40000".parse().unwrap());
        assert_eq!(socket.state, TcpState::ESTABLISHED);
        assert_eq!(socket.inode, 77);
        assert_eq!(socket.id, body[4..52]);
        assert!(!socket.is_only_v6);
    }

    #[test]
    fn a_listener_says_whether_it_is_for_ipv6_only() {
        let mut body = vec![0; MESSAGE];
        body[..2].copy_from_slice(&[libc::AF_INET6 as u8, TcpState::LISTEN.0]);
        body[4..6].copy_from_slice(&[0x1f, 0x90]);
        body[40..44].copy_from_slice(&1u32.to_ne_bytes());
        // Another one first: INET_DIAG_SHUTDOWN.
        for (kind, value) in [(8u16, 0u8), (INET_DIAG_SKV6ONLY, 1)] {
            body.extend(5u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend([value, 0, 0, 0]);
        }
        let socket = parse(&body).unwrap();
        assert_eq!(socket.local, "[::]:8080".parse().unwrap());
        assert_eq!((socket.interface, socket.is_only_v6), (1, true));
        body.truncate(MESSAGE + 8);
        assert!(!parse(&body).unwrap().is_only_v6);
    }

    #[test]
    fn an_error_is_the_kernels_own() {
        let error = acknowledgement(&(-libc::EOPNOTSUPP).to_ne_bytes()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        acknowledgement(&0i32.to_ne_bytes()).unwrap();
        acknowledgement(&[0]).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &*bytes;
            while let Some((_, body, next)) = message(rest) {
                let _ = parse(body);
                prop_assert!(next.len() < rest.len());
                rest = next;
            }
        }
    }
}
