//! Counts of the service's answers, for the metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Counters, from the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(super) allowed: AtomicU64,
    pub(super) limited: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Windows that were forgotten before they were over.
    pub(super) forgotten: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Stats {
    /// Adds them to the metrics that are being scraped.
    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut requests = encoder.encode_descriptor(
            "weft_rate_limit_requests",
            "Requests to the rate limit service",
            None,
            MetricType::Counter,
        )?;
        for (code, counter) in [
            ("ok", &self.allowed),
            ("over_limit", &self.limited),
            ("error", &self.failed),
            ("refused", &self.refused),
        ] {
            let labels = [("code", code)];
            now(counter).encode(requests.encode_family(&labels)?)?;
        }
        let forgotten = encoder.encode_descriptor(
            "weft_rate_limit_forgotten_windows",
            "Windows that had to make room for others before they were over",
            None,
            MetricType::Counter,
        )?;
        now(&self.forgotten).encode(forgotten)
    }
}

fn now(counter: &AtomicU64) -> ConstCounter<u64> {
    ConstCounter::new(counter.load(Ordering::Relaxed))
}
