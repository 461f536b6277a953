//! Metrics of the agent itself; read when they are scraped.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;
use weft_proxy::discovery::DiscoveryStatus;
use weft_proxy::identity::CertificateManager;

use crate::pods::{NodeContext, PodPhase, PodStatuses};
use crate::redirect::Redirect;

/// The agent's metrics, all named `weft_*`.
#[derive(Debug)]
pub(crate) struct AgentMetrics {
    statuses: PodStatuses,
    redirect: Arc<Redirect>,
    certificates: Arc<CertificateManager>,
    discovery: watch::Receiver<DiscoveryStatus>,
}

impl Collector for AgentMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.capture_states(&mut encoder)?;
        self.unprotected_connections(&mut encoder)?;
        self.open_moments(&mut encoder)?;
        self.kernel_verdicts(&mut encoder)?;
        self.certificate_expiries(&mut encoder)?;
        self.configuration(&mut encoder)
    }
}

impl AgentMetrics {
    /// The metrics of an agent.
    pub(crate) fn new(node: &NodeContext) -> Self {
        // Not the whole node: it owns the registry that owns this.
        Self {
            statuses: node.statuses.clone(),
            redirect: Arc::clone(&node.redirect),
            certificates: Arc::clone(&node.runtime.certificates),
            discovery: node.runtime.discovery(),
        }
    }

    fn capture_states(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "weft_pod_capture_state",
            "How far each pod of this node is into the mesh: 1 for the state that it is in",
            None,
            MetricType::Gauge,
        )?;
        for pod in self.statuses.snapshot().values() {
            for phase in PodPhase::ALL {
                let labels = [
                    ("namespace", &*pod.namespace),
                    ("pod", &*pod.name),
                    ("mtls_mode", &*pod.mtls_mode),
                    ("state", phase.as_str()),
                ];
                let is_in = ConstGauge::new(i64::from(pod.phase == phase));
                is_in.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn unprotected_connections(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "weft_pod_unprotected_connections",
            "Connections from before a pod's capture that go on past the proxy and may not",
            None,
            MetricType::Gauge,
        )?;
        for pod in self.statuses.snapshot().values() {
            let labels = [("namespace", &*pod.namespace), ("pod", &*pod.name)];
            let count = i64::try_from(pod.unprotected_connections).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn open_moments(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "weft_pod_open_seconds",
            "Time for which a pod was open that may not be, before it was found and refused",
            None,
            MetricType::Gauge,
        )?;
        for pod in self.statuses.snapshot().values() {
            let Some(milliseconds) = pod.open_milliseconds else {
                continue;
            };
            let labels = [("namespace", &*pod.namespace), ("pod", &*pod.name)];
            let seconds = Duration::from_millis(milliseconds).as_secs_f64();
            ConstGauge::new(seconds).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn kernel_verdicts(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "weft_ebpf_verdicts",
            "Decisions of the kernel programs, and what led to them",
            None,
            MetricType::Counter,
        )?;
        for counter in self.redirect.counters() {
            let labels = [
                ("program", counter.program),
                ("verdict", counter.verdict),
                ("finding", counter.finding),
            ];
            ConstCounter::new(counter.count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn certificate_expiries(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "weft_certificate_expiration_timestamp_seconds",
            "When the certificate of each identity in use expires; 0 where there is none yet",
            None,
            MetricType::Gauge,
        )?;
        for (identity, expiry) in self.certificates.expiries() {
            let labels = [("identity", identity.to_string())];
            ConstGauge::new(seconds(expiry)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn configuration(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let status = self.discovery.borrow().clone();
        for (name, help, value) in [
            (
                "weft_control_plane_connected",
                "Whether the discovery stream is open",
                i64::from(status.connected),
            ),
            (
                "weft_configuration_synchronized",
                "Whether the whole configuration has come at least once",
                i64::from(status.synchronized),
            ),
            (
                "weft_configuration_last_response_timestamp_seconds",
                "When the control plane last sent something",
                seconds(status.last_response),
            ),
            (
                "weft_configuration_rejected_resources",
                "Resources that can't be used and keep their previous content",
                i64::try_from(status.rejected.len()).unwrap_or(i64::MAX),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// Seconds since the epoch; 0 for never.
fn seconds(time: Option<SystemTime>) -> i64 {
    let since = time
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
