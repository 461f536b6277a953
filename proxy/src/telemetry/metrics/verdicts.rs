//! Metrics of AuthorizationPolicies: verdicts of each pod's, by policy.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::budget::{Account, SeriesBudget};
use super::labels::PodLabels;
use super::shared_series::{SeriesCache, SeriesKey, SharedSeries};
use super::values::OVERFLOW;
use crate::telemetry::authorization::{AuthorizationNote, CountedVerdict};

/// What a verdict is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum VerdictSubject {
    Connection,
    Request,
}

/// Labels of `weft_policy_verdicts_total`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct VerdictLabels {
    #[prometheus(flatten)]
    pod: PodLabels,
    policy_namespace: Arc<str>,
    policy_name: Arc<str>,
    verdict: &'static str,
    dry_run: &'static str,
    subject: &'static str,
}

impl VerdictLabels {
    fn new(pod: &PodLabels, counted: CountedVerdict<'_>, subject: VerdictSubject) -> Self {
        let part = |part: Option<&Arc<str>>| part.map_or_else(|| "".into(), Arc::clone);
        Self {
            pod: pod.clone(),
            policy_namespace: part(counted.policy.map(|policy| &policy.namespace)),
            policy_name: part(counted.policy.map(|policy| &policy.name)),
            verdict: counted.verdict,
            dry_run: match counted.is_dry_run {
                true => "true",
                false => "false",
            },
            subject: match subject {
                VerdictSubject::Connection => "connection",
                VerdictSubject::Request => "request",
            },
        }
    }
}

impl SeriesKey for VerdictLabels {
    type Labels = Self;

    fn labels(&self) -> Self {
        self.clone()
    }

    fn account(&self) -> Option<Account> {
        Some(Account::Policies)
    }

    fn overflow_labels(&self) -> Self {
        Self {
            policy_namespace: OVERFLOW.into(),
            policy_name: OVERFLOW.into(),
            ..self.clone()
        }
    }
}

/// Verdicts of all pods.
#[derive(Debug, Default)]
pub(super) struct VerdictMetrics(SharedSeries<VerdictLabels, Counter>);

impl VerdictMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "weft_policy_verdicts",
            "Verdicts of AuthorizationPolicies on connections and requests",
            self.0.view(|count| count),
        );
    }
}

/// Verdicts of one pod's policies.
#[derive(Debug, Default)]
pub(super) struct PodVerdictSeries(SeriesCache<VerdictLabels, Counter>);

impl PodVerdictSeries {
    /// Counts what policies said of a connection or request.
    pub(super) fn count(
        &mut self,
        all: &VerdictMetrics,
        budget: &mut SeriesBudget,
        pod: &PodLabels,
        note: &AuthorizationNote,
        subject: VerdictSubject,
    ) {
        for counted in note.counted() {
            let labels = VerdictLabels::new(pod, counted, subject);
            self.0.get_or_acquire(labels, budget, &all.0).inc();
        }
    }

    /// Drops what was not used since the last sweep.
    pub(super) fn sweep(&mut self, all: &VerdictMetrics, budget: &mut SeriesBudget) {
        self.0.sweep(budget, &all.0);
    }

    /// The pod is gone.
    pub(super) fn release(self, all: &VerdictMetrics) {
        self.0.release_all(&all.0);
    }
}
