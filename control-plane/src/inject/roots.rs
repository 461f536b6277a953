//! The roots that sidecars trust: a ConfigMap in each namespace in which pods have one, as a pod
//! mounts none of another namespace's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::ca::Authority;
use crate::cluster::Cluster;
use crate::field_manager;

/// Interval of looks for changes by somebody else.
const INTERVAL: Duration = Duration::from_secs(60);
/// Time between two looks for new namespaces, however fast the mesh changes.
const PAUSE: Duration = Duration::from_millis(200);

/// Time after which a write is tried again that has failed.
const RETRY: Duration = Duration::from_secs(2);

/// The ConfigMaps.
pub(crate) struct SidecarRoots {
    pub(crate) client: Client,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) authority: Arc<Authority>,
    /// The name of each.
    pub(crate) config_map: String,
    /// The control plane's own namespace, which has one of its own.
    pub(crate) mesh_namespace: String,
}

impl SidecarRoots {
    /// Keeps them there, for as long as this is the replica that writes. Never ends. They stay
    /// where no pod needs them any more: one that comes back finds them.
    pub(crate) async fn keep(&self) {
        let mut revision = self.cluster.revision();
        let mut material = self.authority.material();
        loop {
            // All of them once more: new roots, or time to see to what others have done.
            let roots = material.borrow_and_update().roots_pem().to_owned();
            let mut written = BTreeSet::new();
            let until = Instant::now() + INTERVAL;
            while Instant::now() < until && !material.has_changed().unwrap_or_default() {
                revision.mark_unchanged();
                let next = match self.write_missing(&roots, &mut written).await {
                    true => until,
                    false => until.min(Instant::now() + RETRY),
                };
                sleep(PAUSE).await;
                let change = async {
                    // Both senders live as long as this.
                    tokio::select! {
                        _ = revision.changed() => {}
                        _ = wait_for_change(&material) => {}
                    }
                };
                let _ = timeout_at(next, change).await;
            }
        }
    }

    /// Writes those that haven't been yet; false when one couldn't be.
    async fn write_missing(&self, roots: &str, written: &mut BTreeSet<String>) -> bool {
        let mut is_complete = true;
        for namespace in self.cluster.sidecar_namespaces() {
            if namespace == self.mesh_namespace || written.contains(&namespace) {
                continue;
            }
            match self.write(&namespace, roots).await {
                Ok(()) => {
                    written.insert(namespace);
                }
                Err(error) => {
                    is_complete = false;
                    let name = &self.config_map;
                    tracing::warn!(namespace, name, %error, "can't publish the mesh's roots for sidecars; trying again");
                }
            }
        }
        is_complete
    }

    async fn write(&self, namespace: &str, roots: &str) -> Result<(), kube::Error> {
        let config_maps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let patch = Patch::Apply(config_map(&self.config_map, roots));
        let parameters = field_manager::apply();
        let written = config_maps.patch(&self.config_map, &parameters, &patch);
        written.await.map(drop)
    }
}

/// Waits for other roots, and leaves it to others to take note of them.
async fn wait_for_change<T>(material: &watch::Receiver<T>) {
    let mut material = material.clone();
    let _ = material.changed().await;
}

fn config_map(name: &str, roots: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": { "app.kubernetes.io/part-of": "weft" },
        },
        "data": { "ca.crt": roots },
    })
}
