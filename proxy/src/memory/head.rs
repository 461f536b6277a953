//! Heads that are on their way: how long they may take, and what those of responses of HTTP/1
//! hold, of which only whoever waits for one knows that it isn't complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::account::ConnectionMemory;

/// The connection was ended because a head that has begun didn't come to its end.
#[derive(Debug, thiserror::Error)]
#[error("a head has begun and did not come to its end in time (--http-head-time)")]
pub(super) struct HeadTimeout;

/// The head of the response that somebody waits for on a connection of HTTP/1, if anybody does.
#[derive(Clone, Debug)]
pub(crate) struct AwaitedHead(Arc<Awaited>);

/// Somebody waits for the head of a response, until this is dropped.
#[derive(Debug)]
pub(crate) struct HeadAwaited<'a>(&'a AwaitedHead);

#[derive(Debug)]
struct Awaited {
    memory: Arc<ConnectionMemory>,
    /// Of the request; 0 while nobody waits.
    number: AtomicU64,
    requests: AtomicU64,
    /// Bytes of the head that count already.
    held: AtomicUsize,
}

/// What came of such heads.
#[derive(Debug)]
pub(super) struct ResponseHeads {
    awaited: AwaitedHead,
    /// Of the request whose response's head it is.
    number: u64,
    bytes: usize,
    /// The last ones.
    tail: u32,
}

impl AwaitedHead {
    /// Of a connection on which nobody waits.
    pub(crate) fn new(memory: &Arc<ConnectionMemory>) -> Self {
        Self(Arc::new(Awaited {
            memory: Arc::clone(memory),
            number: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            held: AtomicUsize::new(0),
        }))
    }

    /// Somebody begins to wait.
    pub(crate) fn begin(&self) -> HeadAwaited<'_> {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.number.store(number, Ordering::Release);
        HeadAwaited(self)
    }

    fn set_held(&self, now: usize) {
        let before = self.0.held.swap(now, Ordering::Relaxed);
        match now >= before {
            true => self.0.memory.hold(now - before),
            false => self.0.memory.release(before - now),
        }
    }
}

impl Drop for HeadAwaited<'_> {
    fn drop(&mut self) {
        let Self(awaited) = self;
        awaited.0.number.store(0, Ordering::Release);
        awaited.set_held(0);
    }
}

impl ResponseHeads {
    /// Of a connection where somebody may wait for one.
    pub(super) fn new(awaited: AwaitedHead) -> Self {
        Self {
            awaited,
            number: 0,
            bytes: 0,
            tail: 0,
        }
    }

    /// Looks at what came, maybe nothing, into a buffer that has so much room left.
    pub(super) fn read(&mut self, bytes: &[u8], room: usize) {
        let number = self.awaited.0.number.load(Ordering::Acquire);
        if number != self.number {
            (self.number, self.bytes, self.tail) = (number, 0, 0);
        }
        if number == 0 {
            return;
        }
        self.bytes += bytes.len();
        let last = bytes.len().saturating_sub(size_of_val(&self.tail));
        for byte in bytes.iter().skip(last) {
            self.tail = (self.tail << 8) | u32::from(*byte);
        }
        // Whoever waits goes on waiting behind one of an interim response.
        if is_end(self.tail) {
            self.bytes = 0;
        }
        let held = if self.bytes > 0 { self.bytes + room } else { 0 };
        self.awaited.set_held(held);
    }

    /// Number of the head that has begun, if one has.
    pub(super) fn unfinished(&self) -> Option<u64> {
        let is_awaited = self.awaited.0.number.load(Ordering::Acquire) == self.number;
        (is_awaited && self.bytes > 0).then_some(self.number)
    }
}

/// Whether bytes that end like this end with an empty line.
fn is_end(tail: u32) -> bool {
    let [_, a, b, c] = tail.to_be_bytes();
    [b, c] == *b"\n\n" || [a, b, c] == *b"\n\r\n"
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::memory::MemoryAccount;

    #[test]
    fn heads_of_responses_count_from_their_first_byte_until_somebody_has_them() {
        let shown = Gauge::default();
        let pod = Arc::new(MemoryAccount::new(1 << 20)).pod(&"pod".into(), shown.clone());
        let awaited = AwaitedHead::new(&pod.connection());
        let mut heads = ResponseHeads::new(awaited.clone());
        heads.read(b"HTTP/1.1 408", 0);
        assert_eq!((shown.get(), heads.unfinished()), (0, None), "nobody asked");
        let waiting = awaited.begin();
        heads.read(b"", 100);
        assert_eq!((shown.get(), heads.unfinished()), (0, None));
        heads.read(b"HTTP/1.1 100 Continue\r\n\r", 100);
        assert_eq!((shown.get(), heads.unfinished()), (124, Some(1)));
        heads.read(b"\n", 99);
        assert_eq!(
            (shown.get(), heads.unfinished()),
            (0, None),
            "what follows may take its time"
        );
        heads.read(b"HTTP/1.1 200 OK\r\n", 0);
        assert_eq!((shown.get(), heads.unfinished()), (17, Some(1)));
        drop(waiting);
        assert_eq!(shown.get(), 0);
        heads.read(b"body", 0);
        assert_eq!((shown.get(), heads.unfinished()), (0, None));
        let _waiting = awaited.begin();
        heads.read(b"H", 0);
        assert_eq!((shown.get(), heads.unfinished()), (1, Some(2)));
    }
}
