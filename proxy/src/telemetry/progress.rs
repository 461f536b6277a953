//! Bytes that a connection has carried so far. Whoever copies them counts; the record and
//! whoever watches for silence read while it lasts.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use weft_model::idle::IdleTimeouts;

use super::tcp::TcpReports;

/// Bytes that a connection has carried so far, and how many of its two directions have
/// ended.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    sent: AtomicU64,
    received: AtomicU64,
    ended_directions: AtomicU64,
    /// Once whoever carried it is done.
    tcp: OnceLock<Box<TcpReports>>,
}

/// Bytes that a connection has carried.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ByteCount {
    /// From the side that opened the connection to the other.
    pub(crate) sent: u64,
    /// Back.
    pub(crate) received: u64,
}

impl std::ops::Sub for ByteCount {
    type Output = Self;

    /// Bytes that were carried since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(earlier.sent),
            received: self.received.saturating_sub(earlier.received),
        }
    }
}

/// Counts one direction of a connection, for whoever copies it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectionProgress<'a> {
    bytes: &'a AtomicU64,
    ended_directions: &'a AtomicU64,
}

impl DirectionProgress<'_> {
    /// More bytes were passed on.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The direction has ended: nothing follows.
    pub(crate) fn end(&self) {
        self.ended_directions.fetch_add(1, Ordering::Relaxed);
    }
}

impl Progress {
    /// The direction from the side that opened the connection to the other.
    pub(crate) fn sending(&self) -> DirectionProgress<'_> {
        DirectionProgress {
            bytes: &self.sent,
            ended_directions: &self.ended_directions,
        }
    }

    /// The direction back.
    pub(crate) fn receiving(&self) -> DirectionProgress<'_> {
        DirectionProgress {
            bytes: &self.received,
            ended_directions: &self.ended_directions,
        }
    }

    /// More bytes went from the side that opened the connection to the other.
    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sending().add(bytes);
    }

    /// More bytes came back.
    pub(crate) fn add_received(&self, bytes: usize) {
        self.receiving().add(bytes);
    }

    /// What the kernel knew of both ends when they were given up.
    pub(crate) fn set_tcp(&self, reports: TcpReports) {
        // The first time counts.
        let _ = self.tcp.set(Box::new(reports));
    }

    /// The same; nothing of either before that.
    pub(crate) fn tcp(&self) -> TcpReports {
        self.tcp.get().map(|reports| **reports).unwrap_or_default()
    }

    /// Bytes carried so far.
    pub(crate) fn bytes(&self) -> ByteCount {
        ByteCount {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    /// Resolves when nothing has moved for the time that applies. It looks once per such
    /// time, so a silent connection lives at most twice as long.
    pub(crate) async fn idle(&self, timeouts: IdleTimeouts) {
        let mut before = (self.bytes(), 0);
        loop {
            let ended = self.ended_directions.load(Ordering::Relaxed);
            let limit = match ended {
                0 => timeouts.open,
                _ => timeouts.half_closed,
            };
            // Without a limit now there may be one once a direction has ended.
            let Some(wait) = limit.or(timeouts.half_closed) else {
                return std::future::pending().await;
            };
            tokio::time::sleep(wait).await;
            let now = (self.bytes(), self.ended_directions.load(Ordering::Relaxed));
            if limit.is_some() && now == before && now.1 == ended {
                return;
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMEOUTS: IdleTimeouts = IdleTimeouts {
        open: Some(Duration::from_secs(10)),
        half_closed: Some(Duration::from_secs(1)),
    };

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_and_a_busy_one_does_not() {
        let progress = Progress::default();
        let busy = async {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                progress.add_sent(1);
            }
        };
        tokio::select! {
            () = progress.idle(TIMEOUTS) => panic!("ended a busy connection"),
            () = busy => {}
        }
        tokio::time::timeout(Duration::from_secs(21), progress.idle(TIMEOUTS))
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_half_closed_is_given_less_time() {
        let progress = Progress::default();
        progress.sending().end();
        tokio::time::timeout(Duration::from_secs(3), progress.idle(TIMEOUTS))
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_only_a_connection_that_is_half_closed_ends() {
        let timeouts = IdleTimeouts {
            open: None,
            ..TIMEOUTS
        };
        let progress = Progress::default();
        let a_week = Duration::from_secs(7 * 24 * 3600);
        let ended = tokio::time::timeout(a_week, progress.idle(timeouts)).await;
        assert!(ended.is_err());
        progress.receiving().end();
        tokio::time::timeout(Duration::from_secs(3), progress.idle(timeouts))
            .await
            .unwrap();
        let never = IdleTimeouts {
            open: None,
            half_closed: None,
        };
        let ended = tokio::time::timeout(a_week, progress.idle(never)).await;
        assert!(ended.is_err());
    }

    #[test]
    fn each_direction_counts_for_itself() {
        let progress = Progress::default();
        progress.sending().add(3);
        progress.receiving().add(5);
        progress.add_received(2);
        let (sent, received) = (3, 7);
        assert_eq!(progress.bytes(), ByteCount { sent, received });
    }
}
