//! What the records of a node count in, and the part of one pod.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use weft_model::workload::{Workload, WorkloadUid};

use super::line_budget::LineBudget;
use super::metrics::Metrics;
use super::metrics::pod::PodMetrics;
use super::table::{ConnectionTables, PodConnections};
use crate::component::Component;

/// What the records of all pods of a node count in.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    component: Component,
    metrics: Arc<Metrics>,
    connections: Arc<ConnectionTables>,
    /// Runs of each pod's proxy: an earlier one may still end when a later has begun.
    runs: Arc<Mutex<HashMap<WorkloadUid, usize>>>,
}

impl Telemetry {
    /// All metrics of the process, for other parts to add theirs.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The open connections of all pods.
    pub fn connections(&self) -> &Arc<ConnectionTables> {
        &self.connections
    }

    /// Nothing yet. A pod may have so many series for what it connects to, and as many for
    /// who connects to it; all pods so many together.
    pub fn new(component: Component, series_per_pod: usize, series_per_node: usize) -> Self {
        let metrics = Metrics::new(component, series_per_pod, series_per_node);
        Self {
            component,
            metrics: Arc::new(metrics),
            ..Self::default()
        }
    }

    /// Writes all metrics in the OpenMetrics text format, with what open connections have
    /// carried until now.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write(&self, text: &mut dyn fmt::Write) -> fmt::Result {
        self.connections.flush();
        self.metrics.write(text)
    }

    /// The same as one string.
    ///
    /// # Errors
    /// Never for the metrics here; the type is the encoder's.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        self.connections.flush();
        self.metrics.encode()
    }

    /// The part of one run of a pod's proxy.
    pub(crate) fn for_pod(&self, workload: &Workload) -> PodTelemetry {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        *runs.entry(workload.uid.clone()).or_default() += 1;
        PodTelemetry(Arc::new(Run {
            metrics: self.metrics.for_pod(workload),
            connections: self.connections.add(),
            pod: workload.uid.clone(),
            retired: AtomicBool::new(false),
            began: Instant::now(),
            lines: LineBudget::default(),
            failure_lines: LineBudget::default(),
            node: self.clone(),
        }))
    }
}

/// What the records of one run of a pod's proxy count in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PodTelemetry(Arc<Run>);

#[derive(Debug)]
struct Run {
    node: Telemetry,
    pod: WorkloadUid,
    metrics: Arc<PodMetrics>,
    connections: Arc<PodConnections>,
    retired: AtomicBool,
    began: Instant,
    lines: LineBudget,
    failure_lines: LineBudget,
}

impl PodTelemetry {
    /// The program that serves it.
    pub(crate) fn component(&self) -> Component {
        self.0.node.component
    }

    /// The pod's part of the metrics.
    pub(crate) fn metrics(&self) -> &PodMetrics {
        &self.0.metrics
    }

    /// Takes one of so many lines of the access log in a second, unless none is left. What was
    /// refused or failed has as many of its own: nobody's requests that succeed use them up.
    pub(super) fn has_line_left(&self, limit: u32, has_succeeded: bool) -> bool {
        let lines = match has_succeeded {
            true => &self.0.lines,
            false => &self.0.failure_lines,
        };
        lines.take(limit, self.0.began.elapsed())
    }

    /// The connections that this run of its proxy has open.
    pub(crate) fn connections(&self) -> &Arc<PodConnections> {
        &self.0.connections
    }

    /// The proxy has ended. With its last run the pod's series go, and nothing that still
    /// ends brings them back.
    pub(crate) fn retire(&self) {
        self.0.retire();
    }
}

impl Run {
    fn retire(&self) {
        if self.retired.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut runs = self
            .node
            .runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match runs.get_mut(&self.pod) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                runs.remove(&self.pod);
                self.node.metrics.forget_pod(&self.pod);
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.retire();
    }
}
