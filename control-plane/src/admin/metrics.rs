//! Metrics of the control plane, read when they are scraped.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use weft_admin::ProcessMetrics;

use super::shown::Shown;

/// Writes all metrics, in the OpenMetrics text format.
pub(super) fn write(shown: &Shown, text: &mut dyn fmt::Write) -> fmt::Result {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(shown.clone()));
    registry.register_collector(Box::new(ProcessMetrics));
    // All of it is a page: they are as many whatever the mesh is.
    let mut page = String::new();
    encode(&mut page, &registry)?;
    text.write_str(&page)
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let agents = self.agents.statuses();
        let connected = agents.values().filter(|agent| agent.streams > 0).count();
        let rejected: usize = agents.values().map(|agent| agent.rejected.len()).sum();
        let failed: usize = agents.values().map(|agent| agent.failed_pods.len()).sum();
        for (name, help, value) in [
            (
                "weft_control_plane_resources",
                "Resources that agents are told",
                self.cluster.resources().len(),
            ),
            (
                "weft_control_plane_agents",
                "Agents that are connected",
                connected,
            ),
            (
                "weft_control_plane_rejected_resources",
                "Resources that agents rejected",
                rejected,
            ),
            (
                "weft_control_plane_failed_pods",
                "Pods that agents could not capture",
                failed,
            ),
            (
                "weft_control_plane_broken_files",
                "Manifest files that are broken",
                (self.source_errors)().len(),
            ),
            (
                "weft_control_plane_conflicts",
                "Objects left out because of others",
                self.cluster.conflicts().len(),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        self.certificates.encode(&mut encoder)?;
        self.rate_limits.encode(&mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::agents::Agents;
    use crate::cluster::Cluster;
    use crate::rate_limit::Stats;

    #[test]
    fn all_parts_are_measured_under_names_that_stay() {
        let agents = Arc::<Agents>::default();
        agents.stream_opened("node-1");
        let broken = || BTreeMap::from([("a.yaml".to_owned(), "why".to_owned())]);
        let shown = Shown {
            cluster: Arc::new(Cluster::of_directory()),
            agents,
            source_errors: Arc::new(broken),
            certificates: Arc::default(),
            rate_limits: Arc::<Stats>::default(),
        };
        let mut text = String::new();
        write(&shown, &mut text).unwrap();
        for line in [
            "# TYPE weft_control_plane_resources gauge",
            "weft_control_plane_resources 0",
            "# TYPE process_open_fds gauge",
            "weft_control_plane_agents 1",
            "weft_control_plane_rejected_resources 0",
            "weft_control_plane_failed_pods 0",
            "weft_control_plane_broken_files 1",
            "weft_control_plane_conflicts 0",
            "weft_certificate_requests_total{result=\"failed\"} 0",
            "weft_rate_limit_requests_total{code=\"over_limit\"} 0",
            "weft_rate_limit_forgotten_windows_total 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
