//! What the service did, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// In the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let name = "weft_rate_limit_requests_total";
        let mut text =
            format!("# HELP {name} Requests to the rate limit service\n# TYPE {name} counter\n");
        for (code, counter) in [
            ("ok", &self.allowed),
            ("over_limit", &self.limited),
            ("error", &self.failed),
            ("refused", &self.refused),
        ] {
            text += &format!("{name}{{code=\"{code}\"}} {}\n", of(counter));
        }
        let name = "weft_rate_limit_forgotten_windows_total";
        let help = "Windows that had to make room for others before they were over";
        text + &format!(
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}\n",
            of(&self.forgotten)
        )
    }
}
