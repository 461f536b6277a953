//! All metrics of the process, and their text.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use weft_model::NamespacedName;
use weft_model::workload::{Workload, WorkloadUid};

use super::budget::NodeSeries;
use super::families::Families;
use super::pod::PodMetrics;
use crate::component::Component;

/// Series that a pod may have for each direction where nobody says otherwise.
pub const SERIES_PER_POD: usize = 1000;
/// Series that all pods of a node may have together where nobody says otherwise.
pub const SERIES_PER_NODE: usize = 10_000;

/// A writer whose type isn't known, as one whose type is.
struct Dynamic<'a>(&'a mut dyn fmt::Write);

impl fmt::Write for Dynamic<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(text)
    }
}

/// All metrics of the process. Series of a pod go when the pod goes.
#[derive(Debug)]
pub struct Metrics {
    /// Read for as long as somebody reads the text of it; written only at the start.
    registry: RwLock<Registry>,
    families: Arc<Families>,
    pods: Mutex<HashMap<WorkloadUid, Arc<PodMetrics>>>,
    /// Series that a pod may have for each direction.
    series_per_pod: usize,
    of_node: Arc<NodeSeries>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Component::default(), SERIES_PER_POD, SERIES_PER_NODE)
    }
}

impl Metrics {
    /// All metrics of the data path, without a series. A pod may have so many for what it
    /// connects to, and as many for who connects to it; all pods so many together.
    pub fn new(component: Component, series_per_pod: usize, series_per_node: usize) -> Self {
        let (mut registry, families) = (Registry::default(), Families::default());
        families.register(component, &mut registry);
        Self {
            registry: RwLock::new(registry),
            families: Arc::new(families),
            pods: Mutex::default(),
            series_per_pod,
            of_node: Arc::new(NodeSeries::new(series_per_node)),
        }
    }

    /// Adds metrics of other parts of the process, at its start.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes everything in the OpenMetrics text format. The writer may wait for whoever
    /// reads: nothing that counts waits for it.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write(&self, text: &mut dyn fmt::Write) -> fmt::Result {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        encode(&mut Dynamic(text), &registry)
    }

    /// The same as one string.
    ///
    /// # Errors
    /// Never for the metrics here; the type is the encoder's.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        self.write(&mut text)?;
        Ok(text)
    }

    /// The part that a pod counts in, the same for all runs of its proxy.
    pub(crate) fn for_pod(&self, workload: &Workload) -> Arc<PodMetrics> {
        let mut pods = self.lock_pods();
        if let Some(pod) = pods.get(&workload.uid) {
            return Arc::clone(pod);
        }
        let families = Arc::clone(&self.families);
        let (of_node, most) = (Arc::clone(&self.of_node), self.series_per_pod);
        let pod = Arc::new(PodMetrics::new(families, workload, of_node, most));
        pods.insert(workload.uid.clone(), Arc::clone(&pod));
        pod
    }

    /// Drops the series of a pod that is gone, except those that other pods use.
    pub(crate) fn forget_pod(&self, pod: &WorkloadUid) {
        let pod = self.lock_pods().remove(pod);
        if let Some(pod) = pod {
            pod.retire();
        }
    }

    /// Counts an ejection of an endpoint of a Service.
    pub(crate) fn count_ejection(&self, service: &NamespacedName) {
        self.families.policies.count_ejection(service);
    }

    /// Drops the series of a Service's endpoints.
    pub(crate) fn forget_service(&self, service: &NamespacedName) {
        self.families.policies.forget_service(service);
    }

    fn lock_pods(&self) -> MutexGuard<'_, HashMap<WorkloadUid, Arc<PodMetrics>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
