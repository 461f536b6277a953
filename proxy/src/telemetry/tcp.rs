//! What the kernel told of the TCP connections beneath a connection, once each, when it ended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::info::Direction;
use crate::sockets::TcpStatistics;

/// What the kernel told of one TCP connection, and how much of that is news.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TcpReport {
    /// All of the TCP connection.
    pub(crate) statistics: TcpStatistics,
    /// Of its retransmits those that nobody has reported yet.
    pub(crate) new_retransmits: u64,
    /// Of its delivered bytes those that nobody has reported yet.
    pub(crate) new_delivered_bytes: u64,
}

impl TcpReport {
    /// Of a TCP connection that one connection had for itself.
    pub(crate) fn whole(statistics: TcpStatistics) -> Self {
        TcpReported::default().report(statistics)
    }
}

/// What was reported of a TCP connection by the connections that share it.
#[derive(Debug, Default)]
pub(crate) struct TcpReported {
    retransmits: AtomicU64,
    delivered_bytes: AtomicU64,
}

impl TcpReported {
    /// A report, whose news are nobody else's.
    pub(crate) fn report(&self, statistics: TcpStatistics) -> TcpReport {
        TcpReport {
            statistics,
            new_retransmits: news(&self.retransmits, statistics.retransmits.into()),
            new_delivered_bytes: news(&self.delivered_bytes, statistics.delivered_bytes),
        }
    }
}

fn news(reported: &AtomicU64, now: u64) -> u64 {
    now.saturating_sub(reported.fetch_max(now, Ordering::Relaxed))
}

/// The TCP connections at both ends of a connection, as far as their kernel told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct TcpReports {
    /// The one that was accepted.
    pub(crate) downstream: Option<TcpReport>,
    /// The one that was opened for it.
    pub(crate) upstream: Option<TcpReport>,
}

impl TcpReports {
    /// The one on the peer's side, seen from the pod.
    pub(crate) fn of_peer(&self, direction: Direction) -> Option<&TcpReport> {
        match direction {
            Direction::Outbound => self.upstream.as_ref(),
            Direction::Inbound => self.downstream.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_streams_share_is_news_to_one_of_them(readings in prop::collection::vec(0..500_u32, 1..20)) {
            let reported = TcpReported::default();
            let reports = readings.iter().map(|reading| {
                reported.report(TcpStatistics {
                    smoothed_rtt: None,
                    retransmits: *reading,
                    delivered_bytes: 3 * u64::from(*reading),
                })
            });
            let (retransmits, bytes) = reports.fold((0, 0), |sum, report| {
                (sum.0 + report.new_retransmits, sum.1 + report.new_delivered_bytes)
            });
            let most = u64::from(*readings.iter().max().unwrap());
            prop_assert_eq!((retransmits, bytes), (most, 3 * most));
        }
    }
}
