//! The pages for operators, kubelet and Prometheus.

mod config;
mod mesh;
mod metrics;

use std::sync::Arc;

use weft_admin::ProcessMetrics;
use weft_proxy::admin::Pages;

use self::metrics::AgentMetrics;
use crate::pods::NodeContext;

/// The pages for kubelet, those for monitoring, and all of them.
pub(crate) struct AdminPages {
    /// Health and readiness alone.
    pub(crate) probes: Pages,
    /// Pages that tell nothing about traffic.
    pub(crate) monitoring: Pages,
    /// All pages, for the operator on the node.
    pub(crate) all: Pages,
}

impl AdminPages {
    /// The pages of an agent, with its own metrics among the proxy's.
    pub(crate) fn new(node: &Arc<NodeContext>) -> Self {
        let runtime = &node.runtime;
        let own = AgentMetrics::new(node);
        let metrics = runtime.node.telemetry.metrics();
        metrics.register(|registry| {
            registry.register_collector(Box::new(own));
            registry.register_collector(Box::new(ProcessMetrics));
        });
        let (described, discovery) = (Arc::clone(node), runtime.discovery());
        let config = move || config::describe(&described, &discovery.borrow());
        Self {
            probes: Pages::new(Arc::clone(&runtime.readiness)),
            monitoring: runtime.monitoring_pages(),
            all: runtime.admin_pages(config),
        }
    }
}
