//! The page `/config`: what the agent knows, and the status of its pods.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weft_proxy::discovery::DiscoveryStatus;

use super::mesh;
use crate::pods::NodeContext;

/// The content of the page.
pub(crate) fn describe(node: &NodeContext, discovery: &DiscoveryStatus) -> Value {
    let mesh = node.runtime.node.store.snapshot();
    let pods: serde_json::Map<_, _> = node
        .statuses
        .snapshot()
        .into_iter()
        .map(|(uid, status)| (uid.to_string(), json!(status)))
        .collect();
    let certificates = node.runtime.certificates.expiries().into_iter().map(|(identity, expiry)| {
        json!({ "identity": identity.to_string(), "not_after": expiry.map(unix_seconds) })
    });
    json!({
        "node": node.runtime.node.name,
        "control_plane": {
            "connected": discovery.connected,
            "synchronized": discovery.synchronized,
            "last_response": discovery.last_response.map(unix_seconds),
            "last_error": discovery.last_error,
            "rejected": discovery.rejected,
        },
        "pods": pods,
        "certificates": certificates.collect::<Vec<_>>(),
        "workloads": mesh::workloads(&mesh),
        "services": mesh::services(&mesh),
        "external_services": mesh::external_services(&mesh),
    })
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
