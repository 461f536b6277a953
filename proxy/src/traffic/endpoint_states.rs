//! What the pods of a node know together of endpoints: what they cost, who is ejected, who
//! is new.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use weft_model::NamespacedName;

use super::endpoints::Endpoints;
use super::loads::Loads;
use crate::sync::lock;
use crate::telemetry::metrics::Metrics;

/// What the pods of a node know together of endpoints.
#[derive(Debug)]
pub(crate) struct EndpointStates {
    pub(super) loads: Arc<Loads>,
    pub(super) metrics: Arc<Metrics>,
    /// By service and port.
    endpoints: Mutex<HashMap<(NamespacedName, u16), Arc<Endpoints>>>,
}

impl EndpointStates {
    /// Nothing is known yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            loads: Arc::default(),
            metrics,
            endpoints: Mutex::default(),
        }
    }

    /// Forgets Services that no pod has used for long, and their series.
    pub(crate) fn forget_unused(&self, now: Instant) {
        let mut endpoints = lock(&self.endpoints);
        let mut forgotten = HashSet::new();
        endpoints.retain(|(service, _), known| {
            let is_used = Arc::strong_count(known) > 1 || !known.is_unused(now);
            if !is_used {
                forgotten.insert(service.clone());
            }
            is_used
        });
        // Another port of it may be in use.
        endpoints.keys().for_each(|(service, _)| {
            forgotten.remove(service);
        });
        for service in &forgotten {
            self.metrics.forget_service(service);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.endpoints).len()
    }

    /// The endpoints of a port of a Service.
    pub(super) fn of_port(
        &self,
        service: &NamespacedName,
        port: u16,
        now: Instant,
    ) -> Arc<Endpoints> {
        let mut endpoints = lock(&self.endpoints);
        let known = endpoints.entry((service.clone(), port));
        let new = || {
            let metrics = Arc::clone(&self.metrics);
            Arc::new(Endpoints::new(service.clone(), metrics, now))
        };
        Arc::clone(known.or_insert_with(new))
    }
}
