//! All metrics of the process, and their text.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use weft_model::NamespacedName;
use weft_model::workload::{Workload, WorkloadUid};

use super::families::Families;
use super::pod::PodMetrics;

/// All metrics of the process. Series of a pod go when the pod goes.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    families: Arc<Families>,
    pods: Mutex<HashMap<WorkloadUid, Arc<PodMetrics>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics of the data path, without a series.
    pub fn new() -> Self {
        let (mut registry, families) = (Registry::default(), Families::default());
        families.register(&mut registry);
        Self {
            registry: Mutex::new(registry),
            families: Arc::new(families),
            pods: Mutex::default(),
        }
    }

    /// Adds metrics of other parts of the process.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.lock_registry());
    }

    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// Never for the metrics here; the type is the encoder's.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.lock_registry())?;
        Ok(text)
    }

    /// The part that a pod counts in, the same for all runs of its proxy.
    pub(crate) fn for_pod(&self, workload: &Workload) -> Arc<PodMetrics> {
        let mut pods = self.lock_pods();
        if let Some(pod) = pods.get(&workload.uid) {
            return Arc::clone(pod);
        }
        let pod = Arc::new(PodMetrics::new(Arc::clone(&self.families), workload));
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

    fn lock_registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pods(&self) -> MutexGuard<'_, HashMap<WorkloadUid, Arc<PodMetrics>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
