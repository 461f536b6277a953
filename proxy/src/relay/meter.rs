//! One half's share of a connection's progress.

use std::sync::atomic::Ordering;

use super::Progress;
use super::halves::Half;

/// Counts what one half carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter<'a> {
    half: Half,
    progress: &'a Progress,
}

impl<'a> Meter<'a> {
    /// For this half of a connection.
    pub(super) fn new(half: Half, progress: &'a Progress) -> Self {
        Self { half, progress }
    }

    /// Counts bytes that were carried.
    pub(super) fn add(self, count: usize) {
        let counter = match self.half {
            Half::Sent => &self.progress.sent,
            Half::Received => &self.progress.received,
        };
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Notes that this half has ended.
    pub(super) fn end(self) {
        self.progress.ended.fetch_add(1, Ordering::Relaxed);
    }
}
