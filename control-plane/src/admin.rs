//! The control plane's pages: `/healthz`, `/readyz`, `/metrics`, and for operators
//! `/config`, `/errors`, `/agents`.

use std::sync::Arc;

use serde_json::{Value, json};
use weft_admin::Answer;
pub(crate) use weft_admin::{Pages, Readiness, serve};
use weft_model::Change;
use weft_model::route::BackendTarget;

use crate::rate_limit::Stats;
use crate::state::State;

/// What everybody in the cluster may see.
pub(crate) fn monitoring(
    readiness: Arc<Readiness>,
    state: &Arc<State>,
    rate_limits: Arc<Stats>,
) -> Pages {
    let state = Arc::clone(state);
    Pages::new(readiness).with("/metrics", move || {
        Answer::prometheus(metrics(&state) + &rate_limits.text())
    })
}

/// Everything, for the operator.
pub(crate) fn all(monitoring: Pages, state: &Arc<State>) -> Pages {
    let of = |show: fn(&State) -> Value| {
        let state = Arc::clone(state);
        move || Answer::json(&show(&state))
    };
    monitoring
        .with("/config", of(config))
        .with("/errors", of(errors))
        .with("/agents", of(|state| json!(state.agents())))
}

fn errors(state: &State) -> Value {
    let (files, objects) = state.errors();
    json!({ "files": files, "objects": objects })
}

fn config(state: &State) -> Value {
    let resources = state.resources();
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
fn metrics(state: &State) -> String {
    let (files, objects) = state.errors();
    let agents = state.agents();
    let connected = agents.values().filter(|agent| agent.streams > 0).count();
    let rejected: usize = agents.values().map(|agent| agent.rejected.len()).sum();
    let failed: usize = agents.values().map(|agent| agent.failed_pods.len()).sum();
    let resources = state.resources().len();
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
            files.len(),
        ),
        (
            "weft_control_plane_conflicts",
            "Objects left out because of others",
            objects.len(),
        ),
    ];
    let text = |(name, help, value): (&str, &str, usize)| {
        format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
    };
    metrics.map(text).concat()
}
