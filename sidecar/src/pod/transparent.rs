//! Sockets at addresses that aren't the pod's own: of TPROXY, for which the proxy has the
//! capability NET_RAW.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, Socket, Type};

/// Ports that connections to the application come from: below those that clients' kernels choose,
/// as one that the client itself has a connection from would be taken for that connection.
const FIRST_PORT: u16 = 10_240;
const PORTS: u16 = 22_528;
/// Ports that are tried one after the other.
const ATTEMPTS: usize = 64;

/// The next port, the same for all clients.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Lets a socket have addresses that aren't the pod's own.
///
/// # Errors
/// Without the capability, with what to do about it.
pub(super) fn make_transparent(socket: &Socket, is_ipv4: bool) -> io::Result<()> {
    let set = match is_ipv4 {
        true => socket.set_ip_transparent_v4(true),
        false => socket.set_ip_transparent_v6(true),
    };
    set.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            "TPROXY needs the capability NET_RAW; start the proxy as root with NET_RAW, SETUID \
             and SETGID, or as its own user with NET_RAW among its ambient capabilities",
        ),
        _ => error,
    })
}

/// Tries whether this process may have such sockets.
///
/// # Errors
/// As [`make_transparent`].
pub(crate) fn try_transparent() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
    make_transparent(&socket, true)
}

/// Gives a socket the address of a client, and a port of our own.
///
/// # Errors
/// When the kernel refuses, or every port that was tried is taken.
pub(super) fn bind_as(socket: &Socket, client: SocketAddr) -> io::Result<()> {
    make_transparent(socket, client.is_ipv4())?;
    let mut refused = None;
    for _ in 0..ATTEMPTS {
        let port = FIRST_PORT + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        if port == client.port() {
            continue;
        }
        match socket.bind(&SocketAddr::new(client.ip(), port).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = Some(error),
            result => return result,
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// The application can be shown that address: one of its family that others have.
pub(super) fn can_be_shown(client: IpAddr, to: IpAddr, own: &[IpAddr]) -> bool {
    client.is_ipv4() == to.is_ipv4()
        && !client.is_loopback()
        && !client.is_unspecified()
        && !own.contains(&client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_shown_addresses_of_others_and_of_its_own_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let own = [ip("10.0.0.1"), ip("fd00::1")];
        for (client, to, expected) in [
            ("10.0.0.2", "10.0.0.1", true),
            ("fd00::2", "fd00::1", true),
            ("10.0.0.1", "10.0.0.1", false),
            ("fd00::2", "10.0.0.1", false),
            ("127.0.0.1", "10.0.0.1", false),
            ("::", "fd00::1", false),
        ] {
            let is_shown = can_be_shown(ip(client), ip(to), &own);
            assert_eq!(is_shown, expected, "{client} to {to}");
        }
    }

    #[test]
    fn ports_are_below_those_that_kernels_choose() {
        // net.ipv4.ip_local_port_range is 32768 to 60999 where nobody has changed it.
        assert!(u32::from(FIRST_PORT) + u32::from(PORTS) <= 32_768);
    }
}
