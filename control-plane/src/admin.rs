//! The control plane's pages: `/healthz`, `/readyz`, `/metrics`, and for operators
//! `/config`, `/errors`, `/agents`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use weft_admin::Answer;
pub(crate) use weft_admin::{Pages, Readiness, serve};
use weft_model::Change;
use weft_model::route::BackendTarget;

use crate::agents::Agents;
use crate::cluster::Cluster;
use crate::rate_limit::Stats;

/// Parts of the source that can't be used, and why: files, or objects.
pub(crate) type SourceErrors = Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) source_errors: SourceErrors,
    pub(crate) rate_limits: Arc<Stats>,
}

/// What everybody in the cluster may see.
pub(crate) fn monitoring(readiness: Arc<Readiness>, shown: &Shown) -> Pages {
    let shown = shown.clone();
    Pages::new(readiness).with("/metrics", move || {
        Answer::prometheus(metrics(&shown) + &shown.rate_limits.text())
    })
}

/// Everything, for the operator.
pub(crate) fn all(monitoring: Pages, shown: &Shown) -> Pages {
    let page = |show: fn(&Shown) -> Value| {
        let shown = shown.clone();
        move || Answer::json(&show(&shown))
    };
    monitoring
        .with("/config", page(|shown| config(&shown.cluster)))
        .with("/errors", page(errors))
        .with("/agents", page(|shown| json!(shown.agents.statuses())))
}

fn errors(shown: &Shown) -> Value {
    json!({ "files": (shown.source_errors)(), "objects": shown.cluster.conflicts() })
}

fn config(cluster: &Cluster) -> Value {
    let resources = cluster.resources();
    let described = resources.after(None).map(|((kind, name), versioned)| {
        let mut described = json!({
            "kind": kind.as_str_name(),
            "name": &**name,
            "version": versioned.version,
        });
        if let Change::Route(route) = &versioned.change {
            let parents = route
                .parents
                .iter()
                .map(|parent| parent.service.to_string());
            described["parents"] = parents.collect::<Vec<_>>().into();
            let targets = route.rules.iter().flat_map(|rule| &rule.backends);
            let targets = targets.map(|backend| match &backend.target {
                BackendTarget::Service { service, port } => format!("{service}:{port}"),
                BackendTarget::Invalid { reason } => format!("nowhere: {reason}"),
            });
            described["backends"] = targets.collect::<Vec<_>>().into();
        }
        if let Change::Workload(workload) = &versioned.change {
            described["enrolment"] = format!("{:?}", workload.enrolment).into();
            described["mtls_mode"] = workload.mtls_mode.to_string().into();
            described["egress_mode"] = workload.egress_mode.to_string().into();
            described["identity"] = workload.identity.to_string().into();
            described["node"] = workload.node.to_string().into();
            let addresses: Vec<_> = workload.addresses.iter().map(ToString::to_string).collect();
            described["addresses"] = addresses.into();
        }
        described
    });
    described.collect()
}

/// Few and simple enough to write by hand.
fn metrics(shown: &Shown) -> String {
    let agents = shown.agents.statuses();
    let connected = agents.values().filter(|agent| agent.streams > 0).count();
    let rejected: usize = agents.values().map(|agent| agent.rejected.len()).sum();
    let failed: usize = agents.values().map(|agent| agent.failed_pods.len()).sum();
    let resources = shown.cluster.resources().len();
    let metrics = [
        (
            "weft_control_plane_resources",
            "Resources that agents are told",
            resources,
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
            (shown.source_errors)().len(),
        ),
        (
            "weft_control_plane_conflicts",
            "Objects left out because of others",
            shown.cluster.conflicts().len(),
        ),
    ];
    let text = |(name, help, value): (&str, &str, usize)| {
        format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
    };
    metrics.map(text).concat()
}
