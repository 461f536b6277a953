//! The limit of what all connections hold together, and what pods and connections have of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Waker};

use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;

use super::body::{Bodies, RevocableBody};
use super::pressure::{Pressure, pressure};
use crate::sync::lock;
use crate::windows::Windows;

/// Bytes by which a pod may differ from what all have heard of it: threads would fight over one
/// number otherwise.
const STEP: usize = 128 * 1024;
/// Connections that are ended at once, at most.
const MOST_CUT: usize = 64;
/// The part that windows are of what they would be, once memory is short.
const SHRUNK: u32 = 8;
/// Windows that nobody reads of which there is room for: two connections with all their streams.
const MOST_FULL_WINDOWS: usize = 256;
/// Windows don't get smaller: the default of the protocol (RFC 9113 section 6.5.2).
const SMALLEST_WINDOW: u32 = 64 * 1024 - 1;

/// What the connections of all pods hold.
#[derive(Debug)]
pub(crate) struct MemoryAccount {
    limit: usize,
    held: AtomicUsize,
    pods: Mutex<Vec<Weak<PodMemory>>>,
}

/// What the connections of one pod hold.
#[derive(Debug)]
pub(crate) struct PodMemory {
    account: Arc<MemoryAccount>,
    name: Arc<str>,
    held: AtomicUsize,
    /// The same, as its series shows it.
    shown: Gauge,
    /// What the account has heard of.
    reported: AtomicUsize,
    connections: Mutex<Vec<Weak<ConnectionMemory>>>,
}

/// What one connection holds.
#[derive(Debug)]
pub(crate) struct ConnectionMemory {
    pod: Arc<PodMemory>,
    held: AtomicUsize,
    /// The part of it that was received, and what waits for it.
    metered: AtomicUsize,
    open_streams: AtomicUsize,
    is_cut: AtomicBool,
    is_head_late: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Of its responses.
    bodies: Bodies<Incoming>,
}

/// A stream of a connection whose bytes somebody may still read.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<ConnectionMemory>);

/// Bytes that a pod holds beside what its connections show, until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    pod: Arc<PodMemory>,
    bytes: usize,
}

/// Whether a pod that may hold no more ends connections of its own, or of the pod that holds
/// most: it isn't to blame for what others have taken.
fn is_to_blame(limit: usize, own: usize, most: usize) -> bool {
    own >= limit / 4 || own >= most
}

impl MemoryAccount {
    /// Of that many bytes, of which none is held.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
            pods: Mutex::default(),
        }
    }

    /// The part of one more pod, whose series is `shown`.
    pub(crate) fn pod(self: &Arc<Self>, name: &Arc<str>, shown: Gauge) -> Arc<PodMemory> {
        let pod = Arc::new(PodMemory {
            account: Arc::clone(self),
            name: Arc::clone(name),
            held: AtomicUsize::new(0),
            shown,
            reported: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let mut pods = lock(&self.pods);
        pods.retain(|pod| pod.strong_count() > 0);
        pods.push(Arc::downgrade(&pod));
        pod
    }

    /// The pod that holds most.
    fn largest(&self) -> Option<Arc<PodMemory>> {
        let pods = lock(&self.pods);
        let pods = pods.iter().filter_map(Weak::upgrade);
        pods.max_by_key(|pod| pod.held.load(Ordering::Relaxed))
    }
}

impl PodMemory {
    /// The part of one more connection.
    pub(crate) fn connection(self: &Arc<Self>) -> Arc<ConnectionMemory> {
        let connection = Arc::new(ConnectionMemory {
            pod: Arc::clone(self),
            held: AtomicUsize::new(0),
            metered: AtomicUsize::new(0),
            open_streams: AtomicUsize::new(0),
            is_cut: AtomicBool::new(false),
            is_head_late: AtomicBool::new(false),
            waker: Mutex::default(),
            bodies: Bodies::default(),
        });
        let mut connections = lock(&self.connections);
        // As seldom as the list has doubled.
        if connections.len() == connections.capacity() {
            connections.retain(|connection| connection.strong_count() > 0);
        }
        connections.push(Arc::downgrade(&connection));
        connection
    }

    /// Counts bytes that the pod holds from now on.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> HeldBytes {
        self.grew(bytes);
        let pod = Arc::clone(self);
        HeldBytes { pod, bytes }
    }

    /// Whether the pod holds so much that it gets nothing new.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self.pressure(), Pressure::High | Pressure::Exceeded)
    }

    /// The windows of a connection that begins now: as far as there is room for many of them, and
    /// smaller where less is left.
    pub(crate) fn windows(&self, windows: Windows) -> Windows {
        let part = u32::try_from(self.account.limit / MOST_FULL_WINDOWS).unwrap_or(u32::MAX);
        let stream = windows.stream.min(part);
        let stream = match self.pressure() {
            Pressure::Low => stream,
            _ => stream / SHRUNK,
        };
        let stream = stream.max(SMALLEST_WINDOW.min(windows.stream));
        Windows { stream, ..windows }
    }

    fn pressure(&self) -> Pressure {
        let held = self.account.held.load(Ordering::Relaxed);
        pressure(self.account.limit, held, self.held.load(Ordering::Relaxed))
    }

    fn grew(&self, by: usize) {
        let held = self.held.fetch_add(by, Ordering::Relaxed) + by;
        self.shown.inc_by(i64::try_from(by).unwrap_or(i64::MAX));
        if self.report(held) && self.pressure() == Pressure::Exceeded {
            self.make_room();
        }
    }

    fn shrank(&self, by: usize) {
        let held = self.held.fetch_sub(by, Ordering::Relaxed) - by;
        self.shown.dec_by(i64::try_from(by).unwrap_or(i64::MAX));
        self.report(held);
    }

    /// Tells the account, where it has changed by much.
    fn report(&self, held: usize) -> bool {
        if held.abs_diff(self.reported.load(Ordering::Relaxed)) < STEP {
            return false;
        }
        self.report_now(held);
        true
    }

    fn report_now(&self, held: usize) {
        let before = self.reported.swap(held, Ordering::Relaxed);
        let account = &self.account.held;
        match held >= before {
            true => account.fetch_add(held - before, Ordering::Relaxed),
            false => account.fetch_sub(before - held, Ordering::Relaxed),
        };
    }

    /// Ends connections that hold most, until the pod holds no more than it may.
    fn make_room(&self) {
        for _ in 0..MOST_CUT {
            if self.pressure() != Pressure::Exceeded {
                return;
            }
            let own = self.held.load(Ordering::Relaxed);
            let largest = self.account.largest();
            let other = largest.filter(|largest| {
                let most = largest.held.load(Ordering::Relaxed);
                !is_to_blame(self.account.limit, own, most)
            });
            let was_cut = match &other {
                Some(other) => other.cut_largest(),
                None => self.cut_largest(),
            };
            if !was_cut {
                return;
            }
        }
    }

    /// Ends the connection that holds most; false when none holds anything.
    fn cut_largest(&self) -> bool {
        let connections = lock(&self.connections);
        let open = connections.iter().filter_map(Weak::upgrade);
        let largest = open.max_by_key(|connection| connection.held.load(Ordering::Relaxed));
        drop(connections);
        let Some(largest) = largest else {
            return false;
        };
        let held = largest.cut();
        if held > 0 {
            tracing::warn!(pod = %self.name, held, "a connection that holds too much memory is ended");
        }
        held > 0
    }
}

impl Default for PodMemory {
    /// Of a pod that may hold as much as it likes.
    fn default() -> Self {
        Self {
            account: Arc::new(MemoryAccount::new(usize::MAX)),
            name: "".into(),
            held: AtomicUsize::new(0),
            shown: Gauge::default(),
            reported: AtomicUsize::new(0),
            connections: Mutex::default(),
        }
    }
}

impl HeldBytes {
    /// It holds that many from now on.
    pub(crate) fn set(&mut self, bytes: usize) {
        match bytes >= self.bytes {
            true => self.pod.grew(bytes - self.bytes),
            false => self.pod.shrank(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.pod.shrank(self.bytes);
    }
}

impl Drop for PodMemory {
    fn drop(&mut self) {
        self.report_now(0);
    }
}

impl ConnectionMemory {
    /// The connection holds that many bytes now, beside those that it is told of one by one.
    pub(super) fn set_held(&self, now: usize) {
        if self.is_cut() {
            return;
        }
        let before = self.metered.swap(now, Ordering::Relaxed);
        match now >= before {
            true => self.hold(now - before),
            false => self.release(before - now),
        }
    }

    /// The connection holds so many bytes more.
    pub(super) fn hold(&self, bytes: usize) {
        if bytes > 0 && !self.is_cut() {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            self.pod.grew(bytes);
        }
    }

    /// It holds so many less. Those of a connection that was ended count no longer already.
    pub(super) fn release(&self, bytes: usize) {
        let less = |held: usize| held.checked_sub(bytes);
        let held = &self.held;
        let released = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if bytes > 0 && released.is_ok() {
            self.pod.shrank(bytes);
        }
    }

    /// One more stream whose bytes somebody may read.
    pub(crate) fn open_stream(self: &Arc<Self>) -> OpenStream {
        self.open_streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(self))
    }

    /// Streams whose bytes somebody may still read.
    pub(super) fn open_streams(&self) -> usize {
        self.open_streams.load(Ordering::Relaxed)
    }

    /// Whether it was ended because it holds too much.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// A head on it has taken too long.
    pub(super) fn set_head_late(&self) {
        self.is_head_late.store(true, Ordering::Release);
    }

    /// Whether it was ended because a head on it has taken too long.
    pub(crate) fn is_head_late(&self) -> bool {
        self.is_head_late.load(Ordering::Acquire)
    }

    /// The connection was driven to its end: if it was ended because it holds too much, what it
    /// still has of responses that nobody reads goes, too.
    pub(crate) fn has_ended(&self) {
        if self.is_cut() {
            self.bodies.revoke();
        }
    }

    /// Has the task woken when the connection is ended.
    pub(super) fn wake_when_cut(&self, context: &Context<'_>) {
        let mut waker = lock(&self.waker);
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
    }

    /// Ends it. What it holds counts no longer, as it is about to go.
    fn cut(&self) -> usize {
        self.is_cut.store(true, Ordering::Release);
        let held = self.held.swap(0, Ordering::Relaxed);
        self.pod.shrank(held);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
        held
    }
}

impl Drop for ConnectionMemory {
    fn drop(&mut self) {
        self.pod.shrank(self.held.load(Ordering::Relaxed));
    }
}

impl OpenStream {
    /// The body of its response, which goes with the connection when that holds too much.
    pub(crate) fn body(&self, body: Incoming) -> RevocableBody<Incoming> {
        self.0.bodies.add(body)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    fn pods(limit: usize, count: usize) -> Vec<Arc<PodMemory>> {
        let account = Arc::new(MemoryAccount::new(limit));
        let pod = |_| account.pod(&"pod".into(), Gauge::default());
        (0..count).map(pod).collect()
    }

    #[test]
    fn the_connection_that_holds_most_is_ended_once_the_pod_holds_more_than_is_left() {
        let pods = pods(100 * MIB, 2);
        let [small, large] = [10 * MIB, 33 * MIB].map(|held| {
            let connection = pods[0].connection();
            connection.set_held(held);
            connection
        });
        assert!(pods[0].is_short(), "43 of 57");
        let neighbour = pods[1].connection();
        neighbour.set_held(MIB);
        assert!(!pods[1].is_short());
        small.set_held(25 * MIB);
        assert!(large.is_cut() && !small.is_cut() && !neighbour.is_cut());
        assert!(!pods[0].is_short());
        // What is ended counts no longer.
        large.set_held(60 * MIB);
        drop(large);
        assert_eq!(pods[0].held.load(Ordering::Relaxed), 25 * MIB);
    }

    #[test]
    fn a_pod_that_holds_little_ends_a_connection_of_the_one_that_holds_most() {
        let pods = pods(100 * MIB, 3);
        let [greedy, large, small] = [49, 25, 13].map(|held| held * MIB);
        let connections: Vec<_> = pods.iter().map(PodMemory::connection).collect();
        for (connection, held) in connections.iter().zip([greedy, large, small]) {
            connection.set_held(held);
            assert!(connections.iter().all(|connection| !connection.is_cut()));
        }
        connections[2].set_held(small + MIB);
        let cut = connections.iter().map(|connection| connection.is_cut());
        assert_eq!(cut.collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn windows_shrink_before_anything_is_refused() {
        let pods = pods(256 * MIB, 1);
        let windows = Windows {
            stream: 1 << 20,
            most_streams: 100,
        };
        assert_eq!(pods[0].windows(windows).stream, 1 << 20);
        let connection = pods[0].connection();
        connection.set_held(90 * MIB);
        assert_eq!(pods[0].windows(windows).stream, 1 << 17);
        assert!(!pods[0].is_short());
        let small = Windows {
            stream: 16 * 1024,
            most_streams: 100,
        };
        assert_eq!(pods[0].windows(small).stream, 16 * 1024);
        drop(connection);
        assert_eq!(pods[0].windows(windows).stream, 1 << 20);
    }

    #[test]
    fn windows_are_as_large_as_many_of_them_find_room() {
        let windows = Windows {
            stream: 2 << 20,
            most_streams: 100,
        };
        for (limit, expected) in [
            (1024 * MIB, 2 << 20),
            (512 * MIB, 2 << 20),
            (256 * MIB, 1 << 20),
            (MIB, SMALLEST_WINDOW),
        ] {
            assert_eq!(pods(limit, 1)[0].windows(windows).stream, expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_they_do_all_hold_no_more_than_the_limit(
            steps in prop::collection::vec((0usize..4, 0usize..8, 0usize..40), 0..400),
        ) {
            let pods = pods(64 * MIB, 4);
            let connect = |pod: &Arc<PodMemory>| -> Vec<_> { (0..8).map(|_| pod.connection()).collect() };
            let mut connections: Vec<_> = pods.iter().map(connect).collect();
            for (pod, index, held) in steps {
                if connections[pod][index].is_cut() {
                    connections[pod][index] = pods[pod].connection();
                }
                connections[pod][index].set_held(held * MIB);
                let all: usize = pods.iter().map(|pod| pod.held.load(Ordering::Relaxed)).sum();
                prop_assert!(all <= 64 * MIB + 4 * STEP, "{}", all);
            }
            drop(connections);
            let all: usize = pods.iter().map(|pod| pod.held.load(Ordering::Relaxed)).sum();
            prop_assert_eq!(all, 0);
        }
    }
}
