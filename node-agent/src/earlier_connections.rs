//! Connections of a pod from before its capture: they run past the proxy. Of pods that may not
//! be open they are ended, of others where the operator wants it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weft_model::workload::{CaptureExclusions, RefusedConnections};

use crate::draining::{DrainingAgents, open_sockets};
use crate::namespaces::{Diag, NetworkNamespace, TcpSocket, TcpState};

/// The number of times that sockets are listed: one whose handshake was under way may be
/// established only after the first.
const ROUNDS: usize = 3;

/// Connections that are kept in memory at once. Where there are more, the sockets are listed
/// again.
const BATCH: usize = 16 * 1024;

/// Time after which those that are there go on past the proxy, and are told of.
const LONGEST: Duration = Duration::from_secs(10);

/// The result of ending a pod's earlier connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EarlierConnections {
    /// Those that were ended: both ends get a reset.
    pub ended: usize,
    /// Those that go on past the proxy.
    pub left: usize,
}

/// Ends a pod's connections that run past its proxy: all but those within the pod, those of
/// this process and of agents that have handed over to it, and those to the pod's exclusions. No new ones can be opened when this is
/// called. Where there are very many it takes its time: it is nothing for a thread that others
/// need.
///
/// # Errors
/// When the kernel doesn't list the sockets of the namespace. That it can't end them (without
/// `CONFIG_INET_DIAG_DESTROY`) is none: they are then left.
pub fn end(
    namespace: &NetworkNamespace,
    directions: RefusedConnections,
    exclusions: &CaptureExclusions,
    draining: &DrainingAgents,
) -> io::Result<EarlierConnections> {
    let began = Instant::now();
    let diag = Diag::open(namespace)?;
    let mut result = EarlierConnections::default();
    let mut rounds = 0;
    while rounds < ROUNDS {
        let Batch { sockets, beyond } = Batch::list(&diag, directions, exclusions, draining)?;
        result.left = beyond;
        let mut ended = 0;
        for (index, socket) in sockets.iter().enumerate() {
            if began.elapsed() > LONGEST {
                result.ended += ended;
                result.left += sockets.len() - index;
                return Ok(result);
            }
            match diag.end(socket) {
                Ok(()) => ended += 1,
                // It has ended by itself.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => {
                    tracing::debug!(%error, ?socket, "can't end a connection");
                    result.left += 1;
                }
            }
        }
        result.ended += ended;
        if ended == 0 {
            break;
        }
        // There are others, which no round has seen.
        rounds += usize::from(beyond == 0);
    }
    Ok(result)
}

/// Connections that run past the proxy.
struct Batch {
    sockets: Vec<TcpSocket>,
    /// As many are there besides.
    beyond: usize,
}

impl Batch {
    fn list(
        diag: &Diag,
        directions: RefusedConnections,
        exclusions: &CaptureExclusions,
        draining: &DrainingAgents,
    ) -> io::Result<Self> {
        let listening = diag.listening_sockets()?;
        let listening: HashSet<_> = listening.iter().map(|socket| socket.local.port()).collect();
        let before = proxies_sockets(draining)?;
        let (mut sockets, mut beyond) = (Vec::new(), 0);
        diag.for_each_socket(|socket| {
            let direction = Direction::of(&socket, &listening);
            let is_own = before.contains(&socket.inode);
            match !is_own && runs_past(&socket, direction, directions, exclusions) {
                true if sockets.len() < BATCH => sockets.push(socket),
                true => beyond += 1,
                false => {}
            }
        })?;
        // A proxy may have opened some meanwhile.
        let after = proxies_sockets(draining)?;
        sockets.retain(|socket| !after.contains(&socket.inode));
        Ok(Self { sockets, beyond })
    }
}

/// The end that opened a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    /// Whoever listens on a port has accepted the connections of that port.
    fn of(socket: &TcpSocket, listening: &HashSet<u16>) -> Self {
        match listening.contains(&socket.local.port()) {
            true => Self::Inbound,
            false => Self::Outbound,
        }
    }
}

/// True for a connection of an application that goes on outside of the pod and past its proxy.
fn runs_past(
    socket: &TcpSocket,
    direction: Direction,
    directions: RefusedConnections,
    exclusions: &CaptureExclusions,
) -> bool {
    let (local, peer) = (socket.local.ip(), socket.peer.ip());
    let is_connection = !matches!(socket.state, TcpState::LISTEN | TcpState::TIME_WAIT);
    // Its owner has closed it, and says no more; it may be one of the proxy's.
    let is_closed =
        socket.inode == 0 && !matches!(socket.state, TcpState::ESTABLISHED | TcpState::SYN_RECV);
    let is_within_pod = local == peer || is_loopback(local) || is_loopback(peer);
    let is_wanted = match direction {
        Direction::Inbound => directions.includes_inbound(),
        Direction::Outbound => {
            directions.includes_outbound()
                && !is_link_local(peer)
                && !is_excluded(socket.peer, exclusions)
        }
    };
    is_connection && !is_closed && !is_within_pod && is_wanted
}

/// True for addresses that mean nothing outside of the pod.
fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// True for addresses of IPv6 that mean something on one link only: connections to them aren't
/// captured, and those that come by them are refused.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn is_excluded(peer: SocketAddr, exclusions: &CaptureExclusions) -> bool {
    exclusions.ports.contains(&peer.port())
        || exclusions
            .blocks
            .iter()
            .any(|block| block.contains(peer.ip()))
}

/// The inodes of the sockets of this agent's proxies, and of those before it that still drain.
fn proxies_sockets(draining: &DrainingAgents) -> io::Result<HashSet<u32>> {
    let mut sockets = open_sockets("self")?;
    sockets.extend(draining.sockets());
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, peer: &str) -> TcpSocket {
        let mut socket = TcpSocket::established(local.parse().unwrap(), peer.parse().unwrap());
        socket.inode = 7;
        socket
    }

    const BOTH: RefusedConnections = RefusedConnections::Both;

    fn is_ended(socket: &TcpSocket, listening: &[u16], directions: RefusedConnections) -> bool {
        let listening = listening.iter().copied().collect();
        let exclusions = CaptureExclusions {
            ports: vec![5432],
            blocks: vec!["192.168.0.0/16".parse().unwrap()],
        };
        let direction = Direction::of(socket, &listening);
        runs_past(socket, direction, directions, &exclusions)
    }

    #[test]
    fn connections_within_the_pod_go_on() {
        for (local, peer) in [
            ("127.0.0.1:8080", "127.0.0.1:40000"),
            ("10.0.0.1:8080", "10.0.0.1:40000"),
            ("[::1]:8080", "[::1]:40000"),
        ] {
            let socket = socket(local, peer);
            assert!(!is_ended(&socket, &[8080], BOTH), "{local} {peer}");
        }
    }

    #[test]
    fn connections_of_a_link_end_where_new_ones_would_be_refused() {
        let outbound = socket("[fe80::1]:40000", "[fe80::2]:80");
        assert!(!is_ended(&outbound, &[8080], BOTH));
        let inbound = socket("[fe80::1]:8080", "[fe80::2]:40000");
        assert!(is_ended(&inbound, &[8080], BOTH));
        assert!(!is_ended(&inbound, &[8080], RefusedConnections::Outbound));
    }

    #[test]
    fn connections_with_others_end_in_the_directions_that_are_refused() {
        let inbound = socket("10.0.0.1:8080", "10.0.0.2:40000");
        let outbound = socket("10.0.0.1:40000", "10.0.0.2:80");
        assert!(is_ended(&inbound, &[8080], BOTH));
        assert!(is_ended(&outbound, &[8080], BOTH));
        for (directions, ends) in [
            (RefusedConnections::Outbound, [false, true]),
            (RefusedConnections::Inbound, [true, false]),
        ] {
            let found = [&inbound, &outbound].map(|socket| is_ended(socket, &[8080], directions));
            assert_eq!(found, ends, "{directions:?}");
        }
    }

    #[test]
    fn exclusions_go_on_but_only_outbound() {
        for peer in ["10.0.0.2:5432", "192.168.3.4:80"] {
            let socket = socket("10.0.0.1:40000", peer);
            assert!(!is_ended(&socket, &[], BOTH), "{peer}");
        }
        let client = socket("10.0.0.1:8080", "192.168.3.4:5432");
        assert!(is_ended(&client, &[8080], BOTH), "a client's source port");
    }

    #[test]
    fn listeners_and_what_its_owner_has_closed_stay() {
        let mut socket = socket("10.0.0.1:8080", "10.0.0.2:40000");
        for (state, inode, ends) in [
            (TcpState::LISTEN, 7, false),
            (TcpState::TIME_WAIT, 0, false),
            (TcpState::FIN_WAIT_1, 0, false),
            (TcpState::ESTABLISHED, 0, true),
            (TcpState::CLOSE_WAIT, 7, true),
        ] {
            (socket.state, socket.inode) = (state, inode);
            assert_eq!(is_ended(&socket, &[8080], BOTH), ends, "{state:?} {inode}");
        }
    }
}
