//! One direction's share of a connection's progress.

use std::sync::atomic::Ordering;

use super::Progress;

/// One direction's share of a connection's progress.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meter<'a> {
    /// From downstream to upstream.
    Sent(&'a Progress),
    /// Back.
    Received(&'a Progress),
}

impl Meter<'_> {
    /// Counts bytes that were carried.
    pub(super) fn add(self, count: usize) {
        let (counter, count) = match self {
            Self::Sent(progress) => (&progress.sent, count as u64),
            Self::Received(progress) => (&progress.received, count as u64),
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes that the direction has ended.
    pub(super) fn ended(self) {
        let (Self::Sent(progress) | Self::Received(progress)) = self;
        progress.ended.fetch_add(1, Ordering::Relaxed);
    }
}
