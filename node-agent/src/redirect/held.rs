//! Connections that are held: whose applications wait in `connect()` until the proxy knows
//! whether their destinations answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{self, MapData, RingBuf};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_ebpf_common::{Attempt, HeldConnection, HeldKey, ReachedKey, map};
use weft_model::OriginalDestination;

use super::error::RedirectError;
use super::object::take_map;
use super::packets::{self, Unreachable};
use crate::namespaces::NetworkNamespace;

/// The time for which connections to a destination that has answered are not held: short, so
/// that the end of a server is noticed, and long enough that whoever connects often doesn't
/// notice.
const REACHED_FOR: Duration = Duration::from_secs(1);

type Hash<K, V> = maps::HashMap<MapData, K, V>;

/// Lets held connections go on, or ends them.
#[derive(Debug)]
pub struct HeldConnections {
    /// Each held for one system call, never while waiting.
    held: Mutex<Hash<HeldKey, HeldConnection>>,
    reached: Mutex<Hash<ReachedKey, u64>>,
}

/// A connection that is held.
#[derive(Clone, Copy, Debug)]
pub struct HeldAttempt(Attempt);

/// The connections that are held from now on, as they come.
pub struct HeldAttempts(AsyncFd<RingBuf<MapData>>);

impl std::fmt::Debug for HeldAttempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldAttempts").finish_non_exhaustive()
    }
}

impl HeldAttempts {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        let ring = take_map(object, map::ATTEMPTS)?;
        let action = "read from an eBPF ring buffer";
        // SAFETY: the ring owns its descriptor for as long as it lives, and is dropped together
        // with its registration.
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = registered.map_err(|error| RedirectError::System {
            action,
            error: error.into(),
        })?;
        Ok(Self(ring))
    }

    /// The next one.
    ///
    /// # Errors
    /// When the operating system gives no event queue.
    pub async fn next(&mut self) -> io::Result<HeldAttempt> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            if let Some(item) = ready.get_inner_mut().next() {
                // Another object's would be of another length.
                let Some(attempt) = read(&item) else { continue };
                return Ok(HeldAttempt(attempt));
            }
            ready.clear_ready();
        }
    }
}

fn read(item: &[u8]) -> Option<Attempt> {
    if item.len() != size_of::<Attempt>() {
        return None;
    }
    // SAFETY: as long as the type, which is bytes only, so that every pattern is a value; read
    // without regard to alignment.
    Some(unsafe { item.as_ptr().cast::<Attempt>().read_unaligned() })
}

impl HeldAttempt {
    /// Cookie of the network namespace that it is made in.
    pub fn namespace(&self) -> u64 {
        u64::from_ne_bytes(self.0.namespace)
    }

    /// The application's end, as the proxy will see it.
    pub fn peer(&self) -> SocketAddr {
        self.0.key.connection.source.into()
    }

    /// The proxy's end.
    fn proxy(&self) -> SocketAddr {
        self.0.key.connection.destination.into()
    }

    /// The destination that the application dialled.
    pub fn destination(&self) -> OriginalDestination {
        OriginalDestination::new(self.0.destination.into())
    }

    fn segment(&self) -> &[u8] {
        let length = u32::from_ne_bytes(self.0.length) as usize;
        self.0.segment.get(..length).unwrap_or(&self.0.segment)
    }
}

impl HeldConnections {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self {
            held: Mutex::new(take_map(object, map::HELD)?),
            reached: Mutex::new(take_map(object, map::REACHED)?),
        })
    }

    /// Lets a connection go on. For a moment, others to the same destination aren't held.
    ///
    /// # Errors
    /// When the kernel doesn't let its SYN be sent; the application's kernel does so itself
    /// within seconds.
    pub fn let_through(
        &self,
        attempt: &HeldAttempt,
        namespace: &NetworkNamespace,
    ) -> io::Result<()> {
        self.note_reached(attempt);
        if !self.forget(attempt) {
            return Ok(());
        }
        let (source, proxy) = (attempt.peer(), attempt.proxy());
        let packet = packets::syn(source, proxy, attempt.segment());
        send(namespace, source, proxy, &packet)
    }

    /// Ends a connection: its application's `connect()` fails.
    ///
    /// # Errors
    /// When the kernel doesn't let the answer be sent; the connection then reaches the proxy
    /// within seconds.
    pub fn refuse(
        &self,
        attempt: &HeldAttempt,
        why: Unreachable,
        namespace: &NetworkNamespace,
    ) -> io::Result<()> {
        if !self.forget(attempt) {
            return Ok(());
        }
        let (source, proxy) = (attempt.peer(), attempt.proxy());
        let packet = packets::unreachable(source, proxy, attempt.segment(), why);
        send(namespace, source, source, &packet)
    }

    /// Ends the wait of a connection whose application is gone.
    pub fn give_up(&self, attempt: &HeldAttempt) {
        self.forget(attempt);
    }

    /// Holds a segment that is about to be sent, as if an application had connected.
    pub(super) fn announce(&self, key: HeldKey, held: HeldConnection) -> io::Result<()> {
        let mut map = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(key, held, 0).map_err(io::Error::other)
    }

    /// Whether this process may answer: connections are held only then.
    ///
    /// # Errors
    /// When it may not send packets of its own, which takes CAP_NET_RAW.
    pub fn try_answering(&self) -> io::Result<()> {
        raw_socket(Ipv4Addr::LOCALHOST.into()).map(|_| ())
    }

    /// Whether it was still held.
    fn forget(&self, attempt: &HeldAttempt) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&attempt.0.key).is_ok()
    }

    fn note_reached(&self, attempt: &HeldAttempt) {
        let key = ReachedKey {
            namespace: attempt.0.namespace,
            destination: attempt.0.destination,
        };
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
            return;
        };
        let until = Duration::from(now) + REACHED_FOR;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = reached.insert(key, until, 0) {
            tracing::debug!(%error, "the next connection there will be held, too");
        }
    }
}

/// Sends a packet with its own IP header (raw(7), IPPROTO_RAW) within a pod, which it doesn't
/// leave. The kernel takes the interface that it arrives by from the route to `to`.
fn send(
    namespace: &NetworkNamespace,
    application: SocketAddr,
    to: SocketAddr,
    packet: &[u8],
) -> io::Result<()> {
    let socket = namespace.run(|| raw_socket(to.ip()))??;
    // Ports mean nothing here; IPv6 wants none.
    let [application, to] = [application, to].map(|end| SocketAddr::new(end.ip(), 0));
    // Refused unless the address is the pod's: an application may have bound any
    // (IP_TRANSPARENT, IP_FREEBIND), and a packet to it would leave.
    socket.bind(&application.into())?;
    socket.send_to(packet, &to.into()).map(|_| ())
}

/// Sends a packet within a pod whatever its source is.
pub(super) fn send_as_any(
    namespace: &NetworkNamespace,
    to: SocketAddr,
    packet: &[u8],
) -> io::Result<()> {
    let socket = namespace.run(|| raw_socket(to.ip()))??;
    let to = SocketAddr::new(to.ip(), 0);
    socket.send_to(packet, &to.into()).map(|_| ())
}

fn raw_socket(to: IpAddr) -> io::Result<Socket> {
    let kind = Type::RAW.nonblocking().cloexec();
    let raw = Some(Protocol::from(libc::IPPROTO_RAW));
    Socket::new(Domain::for_address(SocketAddr::new(to, 0)), kind, raw)
}
