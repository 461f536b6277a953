//! All families of the data path.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::connections::ConnectionMetrics;
use super::labels::PodLabels;
use super::policies::PolicyMetrics;
use super::requests::{self, AllRequestSeries};
use super::shared_series::SharedSeries;
use super::verdicts::VerdictMetrics;

/// All families of the data path.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) connections: ConnectionMetrics,
    pub(super) requests: AllRequestSeries,
    pub(super) policies: PolicyMetrics,
    pub(super) verdicts: VerdictMetrics,
    pub(super) tunnels: SharedSeries<PodLabels, Gauge>,
    /// Bytes that the connections of each pod hold.
    pub(super) held_memory: SharedSeries<PodLabels, Gauge>,
    /// Records of each pod that had no place in series of their own.
    pub(super) overflowed: SharedSeries<PodLabels, Counter>,
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
        self.connections.register(registry);
        requests::register(&self.requests, registry);
        registry.register(
            "weft_tunnel_connections",
            "HBONE connections that a pod has open to its peers",
            self.tunnels.view(|open| open),
        );
        registry.register(
            "weft_held_memory_bytes",
            "Bytes that a pod's connections hold on their way to somebody who doesn't read",
            self.held_memory.view(|held| held),
        );
        registry.register(
            "weft_metrics_overflow",
            "Records that count in an overflow series: the pod has as many series as it may",
            self.overflowed.view(|overflowed| overflowed),
        );
        self.policies.register(registry);
        self.verdicts.register(registry);
    }
}
