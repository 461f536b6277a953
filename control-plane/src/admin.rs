//! The control plane's pages: `/healthz`, `/readyz`, `/metrics`, and for operators
//! `/config`, `/errors`, `/agents`.

mod metrics;
mod shown;

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use weft_admin::Answer;
pub(crate) use weft_admin::{Endpoint, Limits, Pages, Readiness, serve, serve_apart};
use weft_model::Change;
use weft_model::route::BackendTarget;

use crate::cluster::Cluster;
pub(crate) use shown::{Shown, SourceErrors};

/// Pages for everybody in the cluster.
pub(crate) fn monitoring(readiness: Arc<Readiness>, shown: &Shown) -> Pages {
    let shown = shown.clone();
    let metrics = move |text: &mut dyn fmt::Write| metrics::write(&shown, text);
    Pages::new(readiness).with_metrics("/metrics", metrics)
}

/// All pages, for the operator.
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
            described["port_modes"] = workload.port_modes.to_string().into();
            described["node_access"] = workload.node_access.to_string().into();
            described["egress_mode"] = workload.egress_mode.to_string().into();
            described["path_normalization"] = workload.path_normalization.to_string().into();
            described["identity"] = workload.identity.to_string().into();
            described["node"] = workload.node.to_string().into();
            let addresses: Vec<_> = workload.addresses.iter().map(ToString::to_string).collect();
            described["addresses"] = addresses.into();
        }
        described
    });
    described.collect()
}
