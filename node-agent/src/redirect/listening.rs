//! Where the applications of captured pods listen, as the kernel's programs have it. The kernel
//! adds addresses as sockets begin to listen; what was there before the capture, and what isn't
//! any more, is found by asking for the sockets of the pod's namespace (sock_diag(7)). In doubt
//! somebody listens, and the proxy finds out.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{self, MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_ebpf_common::{
    ListeningKey, ListeningPod, ListeningSocket, NamespaceCookie, SocketAddress, capacity, map,
};

use super::error::RedirectError;
use super::object::{ignore_missing, take_map};
use crate::namespaces::{Diag, NetworkNamespace, TcpSocket};

/// The time between an event and a look: the kernel tells of a socket's end just before it takes
/// it away, and many may end at once.
const SETTLE: Duration = Duration::from_millis(10);
/// Every namespace has its loopback interface under this number.
const LOOPBACK_INTERFACE: u32 = 1;

type Hash<K, V> = maps::HashMap<MapData, K, V>;

/// The addresses at which applications listen.
#[derive(Debug)]
pub(super) struct ListeningSockets(Mutex<Tables>);

#[derive(Debug)]
struct Tables {
    sockets: Hash<ListeningKey, ListeningSocket>,
    pods: Hash<NamespaceCookie, ListeningPod>,
    /// What is asked for the sockets of each pod, by the cookie of its namespace.
    diags: HashMap<u64, Diag>,
    /// Nobody is told of events any more.
    is_stopped: bool,
}

/// The addresses at which sockets listen: whether they take no connections of IPv4.
type Found = HashMap<ListeningKey, bool>;

/// The result of a look at a pod's sockets.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Addresses at which they listen.
    found: usize,
    /// All of these are in the table.
    is_complete: bool,
    /// Entries that were removed.
    removed: usize,
}

impl ListeningSockets {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self(Mutex::new(Tables {
            sockets: take_map(object, map::LISTENING)?,
            pods: take_map(object, map::LISTENING_PODS)?,
            diags: HashMap::new(),
            is_stopped: false,
        })))
    }

    /// Has connections to a captured pod refused from now on where none of its applications
    /// listens. Where that isn't found out, none is: no reason not to capture the pod.
    pub(super) fn follow(&self, namespace: &NetworkNamespace) {
        let cookie = namespace.cookie();
        let mut tables = self.lock();
        if tables.is_stopped || tables.diags.contains_key(&cookie) {
            return;
        }
        if let Err(error) = tables.follow(namespace) {
            tracing::warn!(%error, "nobody knows where a pod's applications listen; connections to its other ports are taken and then reset");
            tables.forget(cookie);
        }
    }

    /// Has nobody refused any more: ends of listeners are not heard of.
    fn stop(&self) {
        let mut tables = self.lock();
        tables.is_stopped = true;
        let followed: Vec<_> = tables.diags.keys().copied().collect();
        for cookie in followed {
            tables.forget(cookie);
        }
    }

    /// Forgets a pod.
    pub(super) fn forget(&self, cookie: u64) {
        self.lock().forget(cookie);
    }

    /// Looks who listens where something has changed.
    fn look(&self, changed: &HashSet<ListeningKey>) {
        let mut tables = self.lock();
        let mut by_pod: HashMap<u64, Vec<ListeningKey>> = HashMap::new();
        for key in changed {
            let cookie = u64::from_ne_bytes(key.namespace);
            by_pod.entry(cookie).or_default().push(*key);
        }
        for (cookie, changed) in by_pod {
            if let Err(error) = tables.look(cookie, &changed) {
                tracing::warn!(%error, "can't find out where a pod's applications listen");
                // Nobody is refused any more.
                tables.forget(cookie);
            }
        }
    }

    /// The number of addresses, of all pods.
    pub(super) fn len(&self) -> usize {
        self.lock().sockets.keys().count()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn follow(&mut self, namespace: &NetworkNamespace) -> Result<(), RedirectError> {
        let cookie = namespace.cookie();
        let action = "ask for the sockets of a pod";
        let diag =
            Diag::open(namespace).map_err(|error| RedirectError::System { action, error })?;
        self.diags.insert(cookie, diag);
        // The kernel adds to the table from now on, so that none is missed.
        self.write_pod(cookie, ListeningPod::default())?;
        self.look(cookie, &[])
    }

    fn forget(&mut self, cookie: u64) {
        self.diags.remove(&cookie);
        let pod = NamespaceCookie::new(cookie);
        let mut result = ignore_missing(self.pods.remove(&pod));
        for key in self.entries_of(cookie) {
            result = result.and(ignore_missing(self.sockets.remove(&key)));
        }
        if let Err(error) = result {
            tracing::warn!(%error, "the kernel goes on to know where a pod's applications listen that is gone");
        }
    }

    /// Makes a pod's part of the table true: all that listen are added; where something has
    /// changed, those are removed that don't.
    fn look(&mut self, cookie: u64, changed: &[ListeningKey]) -> Result<(), RedirectError> {
        if !self.diags.contains_key(&cookie) {
            return Ok(());
        }
        let known = self.pods.get(&NamespaceCookie::new(cookie), 0);
        let entries = known.map_or(0, |known| u32::from_ne_bytes(known.entries)) as usize;
        let mut look = self.settle(cookie, suspects(changed))?;
        if entries.saturating_sub(look.removed) > look.found {
            // Of some ends nobody was told.
            let own = self.entries_of(cookie);
            look = self.settle(cookie, own)?;
            look.removed = entries;
        }
        let is_news = self.update_pod(cookie, look.is_complete, look.found)?;
        if is_news || look.removed > 0 {
            // What the kernel has written at that moment may be lost.
            let found = self.find(cookie)?;
            if !self.add(&found) {
                self.update_pod(cookie, false, found.len())?;
            }
        }
        Ok(())
    }

    /// Adds all that listen, and removes suspects that don't.
    fn settle(
        &mut self,
        cookie: u64,
        suspects: HashSet<ListeningKey>,
    ) -> Result<Look, RedirectError> {
        let suspects: Vec<_> = suspects
            .into_iter()
            .filter_map(|key| Some((key, self.sockets.get(&key, 0).ok()?)))
            .collect();
        let found = self.find(cookie)?;
        let mut look = Look {
            found: found.len(),
            is_complete: self.add(&found),
            removed: 0,
        };
        for (key, before) in suspects {
            let now = self.sockets.get(&key, 0).ok();
            // Whoever has begun meanwhile stays.
            if !found.contains_key(&key) && now == Some(before) {
                ignore_missing(self.sockets.remove(&key))
                    .map_err(RedirectError::map(map::LISTENING, "remove an address"))?;
                look.removed += 1;
            }
        }
        Ok(look)
    }

    /// Walks through those of all pods.
    fn entries_of(&self, cookie: u64) -> HashSet<ListeningKey> {
        let namespace = NamespaceCookie::new(cookie).bytes;
        let keys = self.sockets.keys().flatten();
        keys.filter(|key| key.namespace == namespace).collect()
    }

    fn find(&self, cookie: u64) -> Result<Found, RedirectError> {
        let listening = self.diags.get(&cookie).map(Diag::listening_sockets);
        let action = "list the sockets of a pod";
        let listening = listening
            .unwrap_or_else(|| Ok(Vec::new()))
            .map_err(|error| RedirectError::System { action, error })?;
        Ok(found(NamespaceCookie::new(cookie), &listening))
    }

    /// Adds addresses. False when not all of them find room.
    fn add(&mut self, found: &Found) -> bool {
        if found.len() > capacity::LISTENING as usize {
            return false;
        }
        let mut has_room = true;
        for (key, is_only_v6) in found {
            let known = self.sockets.get(key, 0);
            let is_only_v6 = u8::from(*is_only_v6);
            let wanted = ListeningSocket {
                is_only_v6,
                ..*known.as_ref().unwrap_or(&ListeningSocket::default())
            };
            if known.is_ok_and(|known| known == wanted) {
                continue;
            }
            has_room &= self.sockets.insert(key, wanted, 0).is_ok();
        }
        has_room
    }

    /// Says whether the table has all of a pod. True when that is news.
    fn update_pod(
        &mut self,
        cookie: u64,
        is_complete: bool,
        entries: usize,
    ) -> Result<bool, RedirectError> {
        let entries = u32::try_from(entries).unwrap_or(u32::MAX).to_ne_bytes();
        let is_complete = u8::from(is_complete);
        let known = self.pods.get(&NamespaceCookie::new(cookie), 0);
        if known.is_ok_and(|known| known.is_complete == is_complete && known.entries == entries) {
            return Ok(false);
        }
        let pod = ListeningPod {
            is_complete,
            entries,
            ..ListeningPod::default()
        };
        self.write_pod(cookie, pod).map(|()| true)
    }

    fn write_pod(&mut self, cookie: u64, pod: ListeningPod) -> Result<(), RedirectError> {
        self.pods
            .insert(NamespaceCookie::new(cookie), pod, 0)
            .map_err(RedirectError::map(map::LISTENING_PODS, "write a pod"))
    }
}

/// The entries that connections to the changed addresses find.
fn suspects(changed: &[ListeningKey]) -> HashSet<ListeningKey> {
    let keys = changed.iter().flat_map(|key| {
        let at = |ip: &str| {
            let address = SocketAddr::new(ip.parse().ok()?, key.address.port_number());
            Some(ListeningKey::new(key.namespace, address.into()))
        };
        [Some(*key), at("0.0.0.0"), at("::")].into_iter().flatten()
    });
    keys.collect()
}

/// The addresses of listening sockets that are reached from outside of their pod.
fn found(namespace: NamespaceCookie, listening: &[TcpSocket]) -> Found {
    let mut found = Found::new();
    for socket in listening {
        // So do the proxy's own.
        if socket.interface == LOOPBACK_INTERFACE || socket.local.ip().is_loopback() {
            continue;
        }
        let key = ListeningKey::new(namespace.bytes, SocketAddress::from(socket.local));
        // Of several sockets at one address, one that takes both is enough.
        let is_only_v6 = found.entry(key).or_insert(socket.is_only_v6);
        *is_only_v6 &= socket.is_only_v6;
    }
    found
}

/// Keeps the table true, for as long as it is run. When that ends, nobody is refused by it.
pub(super) async fn follow_events(
    events: RingBuf<MapData>,
    listening: Arc<ListeningSockets>,
) -> io::Result<()> {
    let result = read_events(events, &listening).await;
    listening.stop();
    result
}

async fn read_events(events: RingBuf<MapData>, listening: &ListeningSockets) -> io::Result<()> {
    // SAFETY: the ring owns its descriptor for as long as it lives, and is dropped together
    // with its registration.
    let registered = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
    let mut events = registered?;
    loop {
        drop(events.readable_mut().await?);
        tokio::time::sleep(SETTLE).await;
        let mut ready = events.readable_mut().await?;
        let mut changed = HashSet::new();
        while let Some(item) = ready.get_inner_mut().next() {
            changed.extend(read(&item));
        }
        ready.clear_ready();
        listening.look(&changed);
    }
}

fn read(item: &[u8]) -> Option<ListeningKey> {
    if item.len() != size_of::<ListeningKey>() {
        return None;
    }
    // SAFETY: as long as the type, which is bytes only, so that every pattern is a value; read
    // without regard to alignment.
    Some(unsafe { item.as_ptr().cast::<ListeningKey>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, interface: u32, is_only_v6: bool) -> TcpSocket {
        let nobody = "0.0.0.0:0".parse().unwrap();
        let mut socket = TcpSocket::established(local.parse().unwrap(), nobody);
        (socket.interface, socket.is_only_v6) = (interface, is_only_v6);
        socket
    }

    fn key(local: &str) -> ListeningKey {
        let local: SocketAddr = local.parse().unwrap();
        ListeningKey::new([7; 8], local.into())
    }

    #[test]
    fn only_sockets_that_others_reach_count() {
        let listening = [
            socket("0.0.0.0:80", 0, false),
            socket("10.0.0.1:81", 2, false),
            socket("127.0.0.1:82", 0, false),
            socket("[::1]:82", 0, true),
            // The proxy's, for all of 127.0.0.0/8.
            socket("0.0.0.0:15001", 1, false),
        ];
        let found = found(NamespaceCookie { bytes: [7; 8] }, &listening);
        let expected = [(key("0.0.0.0:80"), false), (key("10.0.0.1:81"), false)];
        assert_eq!(found, Found::from(expected));
    }

    #[test]
    fn an_address_takes_ipv4_as_soon_as_one_of_its_sockets_does() {
        let both = socket("[::]:80", 0, false);
        let only = socket("[::]:80", 0, true);
        for (listening, is_only_v6) in [
            (vec![only, only], true),
            (vec![only, both], false),
            (vec![both, only], false),
        ] {
            let found = found(NamespaceCookie { bytes: [7; 8] }, &listening);
            assert_eq!(found, Found::from([(key("[::]:80"), is_only_v6)]));
        }
    }

    #[test]
    fn a_change_at_one_address_is_looked_for_at_all_that_take_its_connections() {
        let suspects = suspects(&[key("10.0.0.1:80")]);
        let expected = ["10.0.0.1:80", "0.0.0.0:80", "[::]:80"].map(key);
        assert_eq!(suspects, HashSet::from(expected));
    }
}
