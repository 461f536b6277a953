//! Counts of what became of requests for certificates, for the metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tonic::Code;

/// Counters, from the start of the process.
#[derive(Debug, Default)]
pub(crate) struct CertificateCounts {
    signed: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
}

impl CertificateCounts {
    /// Counts a request by its answer: one that ends with a fault of ours has failed, all
    /// others that get none are denied.
    pub(super) fn record(&self, answer: Code) {
        let counter = match answer {
            Code::Ok => &self.signed,
            Code::Internal | Code::Unavailable | Code::Unknown => &self.failed,
            _ => &self.denied,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds them to the metrics that are being scraped.
    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut requests = encoder.encode_descriptor(
            "weft_certificate_requests",
            "Requests for certificates of workloads",
            None,
            MetricType::Counter,
        )?;
        for (result, counter) in [
            ("signed", &self.signed),
            ("denied", &self.denied),
            ("failed", &self.failed),
        ] {
            let labels = [("result", result)];
            let count = ConstCounter::new(counter.load(Ordering::Relaxed));
            count.encode(requests.encode_family(&labels)?)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn totals(&self) -> [u64; 3] {
        [&self.signed, &self.denied, &self.failed].map(|counter| counter.load(Ordering::Relaxed))
    }
}
