//! Tries a capture out before it is reported: a connection of the pod's own, and a segment that
//! arrives as if it came from the network. Both are held ([`held`](super::held)) where the proxy
//! listens, of which the agent hears, and go no further: nothing of them leaves the pod.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use aya::programs::SocketFilter;
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use weft_ebpf_common::{Connection, HBONE_PORT, HeldConnection, HeldKey};
use weft_model::workload::CaptureExclusions;

use super::held::HeldAttempt;
use super::kernel::KernelState;
use super::pod::{PodRedirect, PodRedirectConfig};
use super::{links, packets};
use crate::namespaces::NetworkNamespace;

/// A TCP header of twenty bytes, and the window of our SYN.
const DATA_OFFSET: u8 = 5 << 4;
const SYN: u8 = 0x02;
const WINDOW: [u8; 2] = [0xff, 0xff];

/// The kind of connections that are tried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbedDirection {
    /// Those that applications open.
    Outbound,
    /// Those that arrive.
    Inbound,
}

impl fmt::Display for ProbedDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        })
    }
}

/// A connection or segment that is under way. Until it is dropped.
#[derive(Debug)]
pub struct CaptureProbe {
    /// The kind of connections that it stands for.
    pub direction: ProbedDirection,
    namespace: u64,
    /// The destination by which it is recognised: one of multicast, to which the kernel connects
    /// nobody, so that even what isn't captured stays in the pod.
    marker: SocketAddr,
    /// The end of the application that we are.
    _socket: Option<Socket>,
    _filter: Option<ListenerFilter>,
}

impl CaptureProbe {
    /// Whether it is what has arrived at the proxy's listener.
    pub fn is_shown_by(&self, attempt: &HeldAttempt) -> bool {
        attempt.namespace() == self.namespace && attempt.destination().address() == self.marker
    }

    /// Its addresses are those of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.marker.is_ipv4()
    }
}

/// The filter that holds segments at one of the proxy's inbound listeners. Connections that are
/// accepted there would inherit it, so it doesn't stay.
#[derive(Debug)]
struct ListenerFilter {
    listener: OwnedFd,
}

impl ListenerFilter {
    fn attach(state: &mut KernelState, listener: BorrowedFd<'_>) -> io::Result<Self> {
        let listener = listener.try_clone_to_owned()?;
        links::attach_hold(&mut state.object, &listener).map_err(io::Error::other)?;
        Ok(Self { listener })
    }
}

impl Drop for ListenerFilter {
    fn drop(&mut self) {
        if let Err(error) = SocketFilter::detach(&self.listener) {
            // It lets everything through that nobody has announced.
            tracing::debug!(%error, "a filter stays at a listener");
        }
    }
}

impl PodRedirect {
    /// Sends a connection and a segment for each family that the pod has. Each that the kernel
    /// hands over to the proxy shows up among the [held attempts](super::HeldAttempts), and is to
    /// be refused there. None is sent where connections can't be held.
    ///
    /// # Errors
    /// When one can't even begin, with its direction; nothing is under way then.
    pub fn probe(
        &self,
        config: &PodRedirectConfig<'_>,
    ) -> Result<Vec<CaptureProbe>, (ProbedDirection, io::Error)> {
        let mut probes = Vec::new();
        if !config.listeners.holds_outbound || !self.kernel().lock().can_hold {
            return Ok(probes);
        }
        for is_v4 in [true, false] {
            let addresses = config.addresses.as_slice().iter();
            let mut addresses = addresses.map(IpAddr::to_canonical);
            let Some(address) = addresses.find(|address| address.is_ipv4() == is_v4) else {
                continue;
            };
            let has_listener = is_v4 || config.listeners.outbound.v6.is_some();
            let marker = marker(is_v4);
            if has_listener && !is_excluded(marker, config.exclusions) {
                let probe = connect(config.namespace, marker);
                probes.push(probe.map_err(|error| (ProbedDirection::Outbound, error))?);
            }
            let (_, hbone) = config.listeners.descriptors_for(address);
            let listener = match is_v4 {
                true => Some(config.listeners.hbone.v4),
                false => config.listeners.hbone.v6,
            };
            if let (Some(_), Some(listener)) = (hbone, listener) {
                let probe = self.arrive(config.namespace, listener, address);
                probes.push(probe.map_err(|error| (ProbedDirection::Inbound, error))?);
            }
        }
        Ok(probes)
    }

    /// Lets a segment arrive at the port of tunnels.
    fn arrive(
        &self,
        namespace: &NetworkNamespace,
        listener: BorrowedFd<'_>,
        address: IpAddr,
    ) -> io::Result<CaptureProbe> {
        let marker = marker(address.is_ipv4());
        let source = SocketAddr::new(documentation(address.is_ipv4()), marker.port());
        let destination = SocketAddr::new(address, HBONE_PORT);
        let key = HeldKey {
            listener: SockRef::from(&listener).cookie()?.to_ne_bytes(),
            connection: Connection {
                source: source.into(),
                destination: destination.into(),
            },
        };
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let now = std::time::Duration::from(now).as_nanos();
        let cookie = namespace.cookie();
        let held = HeldConnection::new(
            cookie.to_ne_bytes(),
            marker.into(),
            u64::try_from(now).unwrap_or(u64::MAX),
        );
        let filter = {
            let mut state = self.kernel().lock();
            state.held.announce(key, held)?;
            ListenerFilter::attach(&mut state, listener)?
        };
        let packet = packets::syn(source, destination, &segment(source, destination));
        super::held::send_as_any(namespace, destination, &packet)?;
        Ok(CaptureProbe {
            direction: ProbedDirection::Inbound,
            namespace: cookie,
            marker,
            _socket: None,
            _filter: Some(filter),
        })
    }
}

/// Connects as an application of the pod's would.
fn connect(namespace: &NetworkNamespace, marker: SocketAddr) -> io::Result<CaptureProbe> {
    let create = || {
        let kind = Type::STREAM.nonblocking().cloexec();
        Socket::new(Domain::for_address(marker), kind, Some(Protocol::TCP))
    };
    let socket = namespace.run(create)??;
    match socket.connect(&marker.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(CaptureProbe {
            direction: ProbedDirection::Outbound,
            namespace: namespace.cookie(),
            marker,
            _socket: Some(socket),
            _filter: None,
        }),
    }
}

/// A destination that no application has: administratively scoped (RFC 2365, RFC 4291 section
/// 2.7), and new each time.
fn marker(is_v4: bool) -> SocketAddr {
    let ip: IpAddr = match is_v4 {
        true => Ipv4Addr::new(239, 255, fastrand::u8(..), fastrand::u8(..)).into(),
        false => Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, fastrand::u16(..), fastrand::u16(..)).into(),
    };
    SocketAddr::new(ip, fastrand::u16(1024..))
}

/// A source that nobody has (RFC 5737, RFC 3849).
fn documentation(is_v4: bool) -> IpAddr {
    match is_v4 {
        true => Ipv4Addr::new(192, 0, 2, 1).into(),
        false => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

fn is_excluded(marker: SocketAddr, exclusions: &CaptureExclusions) -> bool {
    let mut blocks = exclusions.blocks.iter();
    exclusions.ports.contains(&marker.port()) || blocks.any(|block| block.contains(marker.ip()))
}

/// The TCP header of a SYN (RFC 9293 section 3.1).
fn segment(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend(fastrand::u32(..).to_be_bytes());
    segment.extend([0; 4]);
    segment.extend([DATA_OFFSET, SYN]);
    segment.extend(WINDOW);
    // Checksum and urgent pointer.
    segment.extend([0; 4]);
    segment
}
