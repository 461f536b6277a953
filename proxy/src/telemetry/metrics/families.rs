//! All families of the data path.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::connections::ConnectionMetrics;
use super::labels::PodLabels;
use super::policies::PolicyMetrics;
use super::requests::RequestFamilies;
use super::shared_series::SharedSeries;

/// All families of the data path.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) connections: ConnectionMetrics,
    pub(super) requests: SharedSeries<RequestFamilies>,
    pub(super) policies: PolicyMetrics,
    pub(super) tunnels: SharedSeries<Family<PodLabels, Gauge>>,
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
        self.connections.register(registry);
        self.requests.families().register(registry);
        registry.register(
            "weft_tunnel_connections",
            "HBONE connections that a pod has open to its peers",
            self.tunnels.families().clone(),
        );
        self.policies.register(registry);
    }
}
