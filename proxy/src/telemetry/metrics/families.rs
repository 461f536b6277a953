//! All families of the data path.

use std::borrow::Cow;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::connections::ConnectionMetrics;
use super::labels::PodLabels;
use super::policies::PolicyMetrics;
use super::requests::{self, AllRequestSeries};
use super::shared_series::SharedSeries;
use super::verdicts::VerdictMetrics;
use crate::component::Component;

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
    /// Lines of the access log that each pod had no place for.
    pub(super) dropped_lines: SharedSeries<PodLabels, Counter>,
    /// Records of each pod that had no place in series of their own.
    pub(super) overflowed: SharedSeries<PodLabels, Counter>,
}

impl Families {
    /// Connections and requests have the component as a label of their own, so that one query
    /// tells both shapes apart or sums over them.
    pub(super) fn register(&self, component: Component, registry: &mut Registry) {
        let component = label("component", component.as_str());
        let version = label("tag", env!("CARGO_PKG_VERSION"));
        let labels = [component.clone(), version].into_iter();
        registry.sub_registry_with_labels(labels).register(
            "istio_build",
            "The program and its version",
            ConstGauge::new(1),
        );
        let traffic = registry.sub_registry_with_label(component);
        self.connections.register(traffic);
        requests::register(&self.requests, traffic);
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
        registry.register(
            "weft_access_log_dropped_lines",
            "Lines of the access log that were left out: a pod had as many in a second as it may",
            self.dropped_lines.view(|dropped| dropped),
        );
        self.policies.register(registry);
        self.verdicts.register(registry);
    }
}

type Label = (Cow<'static, str>, Cow<'static, str>);

fn label(name: &'static str, value: &'static str) -> Label {
    (Cow::Borrowed(name), Cow::Borrowed(value))
}
