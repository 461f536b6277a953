//! How many connections a listener has, and which of them makes room for a new one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// How many connections a listener has at a time. One more is never refused: another makes
/// room for it, of the same address where that has all it may have, else of the address that
/// has most. Of these it is one that hasn't asked for anything yet, then the one whose reader
/// was waited for longest altogether, and among equals the one that has done nothing for the
/// longest time: whoever reads what there is keeps its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// All together.
    pub(crate) all: usize,
    /// Those of one address.
    pub(crate) per_source: usize,
}

impl Limits {
    /// Of pages that the rest of the cluster reaches.
    pub const MONITORING: Self = Self {
        all: 256,
        per_source: 16,
    };
    /// Of kubelet's probes.
    pub const PROBES: Self = Self {
        all: 64,
        per_source: 16,
    };
    /// Of the operator's pages, whose clients all have the same address.
    pub const OPERATOR: Self = Self {
        all: 64,
        per_source: 64,
    };
}

/// When something last happened on a connection: it came, its request was read, or more of
/// the response was taken.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    /// Nanoseconds since `began`.
    last: Arc<AtomicU64>,
    has_asked: Arc<AtomicBool>,
    /// Nanoseconds that its reader took nothing of what there was for it, until it did last.
    waited: Arc<AtomicU64>,
    /// Since when it takes nothing, in nanoseconds since `began`; 0 where nothing waits for it.
    waits_since: Arc<AtomicU64>,
    began: Instant,
}

impl Activity {
    fn new(began: Instant) -> Self {
        let activity = Self {
            last: Arc::default(),
            has_asked: Arc::default(),
            waited: Arc::default(),
            waits_since: Arc::default(),
            began,
        };
        activity.note();
        activity
    }

    /// Something happens now.
    pub(crate) fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Its reader takes nothing of what there is.
    pub(crate) fn note_waiting(&self) {
        if self.waits_since.load(Ordering::Relaxed) == 0 {
            self.waits_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Its reader took something.
    pub(crate) fn note_read(&self) {
        self.waited.fetch_add(self.waits(), Ordering::Relaxed);
        self.waits_since.store(0, Ordering::Relaxed);
        self.note();
    }

    /// For how long its reader has taken nothing now.
    fn waits(&self) -> u64 {
        match self.waits_since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.now().saturating_sub(since),
        }
    }

    fn now(&self) -> u64 {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        now.max(1)
    }

    /// Its request was read.
    pub(crate) fn note_request(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
        self.note();
    }

    /// The smaller, the sooner it makes room for others.
    fn rank(&self) -> (bool, Reverse<u64>, u64) {
        let has_asked = self.has_asked.load(Ordering::Relaxed);
        let waited = self.waited.load(Ordering::Relaxed) + self.waits();
        (
            has_asked,
            Reverse(waited),
            self.last.load(Ordering::Relaxed),
        )
    }
}

/// The connections of one listener, each with what ends it.
#[derive(Debug)]
pub(crate) struct Clients<C> {
    limits: Limits,
    began: Instant,
    next_id: u64,
    open: BTreeMap<u64, Client<C>>,
}

#[derive(Debug)]
struct Client<C> {
    source: IpAddr,
    activity: Activity,
    /// `None` until it is served.
    cut: Option<C>,
}

/// A connection's place among them.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: u64,
    pub(crate) activity: Activity,
}

impl<C> Clients<C> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            began: Instant::now(),
            next_id: 0,
            open: BTreeMap::new(),
        }
    }

    /// A place for a connection of that address, and what ends the one that had it.
    pub(crate) fn admit(&mut self, source: IpAddr) -> (Place, Option<C>) {
        let crowded = if self.count(source) >= self.limits.per_source {
            Some(source)
        } else if self.open.len() >= self.limits.all {
            self.largest_source()
        } else {
            None
        };
        let left = crowded.and_then(|source| self.stalest(source));
        let cut = left.and_then(|id| self.open.remove(&id)?.cut);
        let id = self.next_id;
        self.next_id += 1;
        let activity = Activity::new(self.began);
        let client = Client {
            source,
            activity: activity.clone(),
            cut: None,
        };
        self.open.insert(id, client);
        (Place { id, activity }, cut)
    }

    /// The connection is served, and this ends it.
    pub(crate) fn set_cut(&mut self, id: u64, cut: C) {
        if let Some(client) = self.open.get_mut(&id) {
            client.cut = Some(cut);
        }
    }

    /// The connection is over.
    pub(crate) fn leave(&mut self, id: u64) {
        self.open.remove(&id);
    }

    fn count(&self, source: IpAddr) -> usize {
        let of_source = |client: &&Client<C>| client.source == source;
        self.open.values().filter(of_source).count()
    }

    /// The address that has most connections.
    fn largest_source(&self) -> Option<IpAddr> {
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for client in self.open.values() {
            *counts.entry(client.source).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(source, _)| source)
    }

    /// The connection of an address that makes room first.
    fn stalest(&self, source: IpAddr) -> Option<u64> {
        let of_source = self.open.iter().filter(|(_, one)| one.source == source);
        let stalest = of_source.min_by_key(|(id, client)| (client.activity.rank(), **id));
        stalest.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        all: 8,
        per_source: 4,
    };

    fn source(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Clients of these addresses, each of which is ended by its number.
    fn clients(sources: &[u8]) -> (Clients<usize>, Vec<Place>) {
        let mut clients = Clients::new(LIMITS);
        let mut places = Vec::new();
        for (number, from) in sources.iter().enumerate() {
            let (place, cut) = clients.admit(source(*from));
            assert_eq!(cut, None);
            clients.set_cut(place.id, number);
            places.push(place);
        }
        (clients, places)
    }

    #[test]
    fn an_address_that_has_all_it_may_have_gives_up_its_own_stalest_connection() {
        let (mut clients, places) = clients(&[1, 2, 1, 1, 1]);
        places[0].activity.note();
        let (_, cut) = clients.admit(source(1));
        assert_eq!(cut, Some(2), "the first one went on");
        assert_eq!(clients.count(source(1)), LIMITS.per_source);
        assert_eq!(clients.count(source(2)), 1);
    }

    #[test]
    fn one_that_is_being_answered_makes_room_after_those_that_ask_for_nothing() {
        let (mut clients, places) = clients(&[1, 1, 1, 1]);
        places[0].activity.note_request();
        for place in &places[1..] {
            place.activity.note();
        }
        let (_, cut) = clients.admit(source(1));
        assert_eq!(cut, Some(1));
    }

    #[test]
    fn a_slow_reader_makes_room_before_one_that_reads_what_there_is() {
        let (mut clients, places) = clients(&[1, 1, 1, 1]);
        for place in &places {
            place.activity.note_request();
        }
        for place in &places[1..] {
            place.activity.note_waiting();
            std::thread::sleep(std::time::Duration::from_millis(1));
            // A byte, now and then.
            place.activity.note_read();
        }
        // The first one has had nothing to read yet, for longer than anything happened elsewhere.
        for expected in [1, 2] {
            let (place, cut) = clients.admit(source(1));
            place.activity.note_request();
            assert!(cut.is_some_and(|cut| cut != 0), "{expected}: {cut:?}");
        }
    }

    #[test]
    fn when_all_places_are_taken_the_address_with_most_makes_room_for_another() {
        let (mut clients, _) = clients(&[1, 1, 1, 2, 2, 3, 4, 5]);
        let (_, cut) = clients.admit(source(6));
        assert_eq!(cut, Some(0));
        assert_eq!(clients.open.len(), LIMITS.all);
        assert_eq!(clients.count(source(6)), 1);
    }

    #[test]
    fn one_that_has_left_leaves_its_place() {
        let (mut clients, places) = clients(&[1, 1, 1, 1]);
        clients.leave(places[3].id);
        assert_eq!(clients.admit(source(1)).1, None);
    }
}
