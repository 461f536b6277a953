//! What a pod's proxy does beside serving: it follows the mesh, and forgets what nobody
//! needs any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use crate::pod::Pod;

/// How often pooled connections are counted and those of gone peers dropped.
const INTERVAL: Duration = Duration::from_secs(10);

/// Authorization is a subscription: whenever the mesh changes, connections that are not
/// allowed any more are cut, and pooled connections to gone peers dropped.
pub(super) async fn follow_changes(pod: Arc<Pod>) {
    let mut changes = pod.node.store.subscribe();
    // It may have changed since the first connection was decided about.
    changes.mark_changed();
    // Also of a mesh that changes all the time something is to be forgotten.
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let mesh = pod.node.store.snapshot();
                pod.last_known().update(&mesh);
                let connections = pod.telemetry.connections();
                connections.recheck(&mesh, &pod.workload(&mesh)).await;
                drop_unused_http(&pod);
            }
            _ = ticks.tick() => {
                drop_unused_http(&pod);
                forget_unused(&pod);
            }
        }
    }
}

/// Connections for requests end when their endpoint does, or when nobody needs them.
fn drop_unused_http(pod: &Pod) {
    let (node, mesh) = (&pod.node, pod.node.store.snapshot());
    pod.http_pool.drop_unused(&mesh, &node.name);
    pod.rate_limits.forget_unused();
}

fn forget_unused(pod: &Pod) {
    let (node, mesh, now) = (&pod.node, pod.node.store.snapshot(), Instant::now());
    pod.clients.forget_unused(now);
    pod.received_rates.forget_unused(now);
    // What all pods share needs no more work for more pods.
    if node.upkeep.is_due(now, INTERVAL) {
        node.endpoints.forget_unused(now);
        node.sequences.forget_removed(&mesh);
    }
    let tunnels = &pod.dialer.tunnels;
    tunnels.retain(|peer| {
        let known = mesh.workload(&peer.workload);
        known.is_some_and(|workload| workload.identity == peer.identity)
    });
    pod.telemetry
        .metrics()
        .set_tunnel_connections(tunnels.len());
}
