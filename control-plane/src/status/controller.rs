//! Watches the objects that have a status of ours, and writes it where it should say
//! something else.
//!
//! An object's status is looked at when the object changes, as its watch says, and when
//! the cluster says that it may be another. It is written against the version that was
//! looked at, as others have their parts in it: whatever came between comes by the watch,
//! and is looked at again.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use kube::api::{ApiResource, DynamicObject, Patch};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use weft_model::NamespacedName;
use weft_model::route::RouteKind;

use super::accepted::Accepted;
use super::authorization_policy::AuthorizationPolicyStatuses;
use super::kind_status::KindStatus;
use super::patch::StatusPatch;
use super::route::RouteStatuses;
use super::traffic_policy::TrafficPolicyStatuses;
use super::writer::{Outcome, write_queued};
use crate::cluster::{Cluster, ObjectStatuses};
use crate::kinds::{AuthorizationPolicyObject, KindObject, ObjectKey, RequestAuthenticationObject};
use crate::source::kubernetes::is_missing;

/// Time between two looks for a kind that the cluster doesn't know.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Writes the status of every kind that has one of ours. One replica does it at a time.
pub(crate) struct StatusController {
    client: Client,
    kinds: Vec<WatchedKind>,
    queue: Arc<ObjectStatuses>,
}

/// One kind, and its objects as they were last seen.
#[derive(Debug)]
struct WatchedKind {
    status: Box<dyn KindStatus>,
    objects: Mutex<HashMap<NamespacedName, Seen>>,
}

/// An object, in the version in which it was asked for.
#[derive(Debug)]
struct Seen {
    resource: ApiResource,
    object: DynamicObject,
}

impl StatusController {
    /// Objects come from the API server and the cluster's queue.
    pub(crate) fn new(client: Client, cluster: &Arc<Cluster>, queue: Arc<ObjectStatuses>) -> Self {
        let route = |kind| {
            let cluster = Arc::clone(cluster);
            Box::new(RouteStatuses { kind, cluster }) as Box<dyn KindStatus>
        };
        let of_cluster = || Arc::clone(cluster);
        let mut kinds: Vec<Box<dyn KindStatus>> = vec![
            Box::new(Accepted::mesh_config()),
            Box::new(Accepted::external_service()),
            Box::new(TrafficPolicyStatuses {
                cluster: of_cluster(),
            }),
            Box::new(AuthorizationPolicyStatuses {
                kind: AuthorizationPolicyObject::KIND,
                cluster: of_cluster(),
            }),
            Box::new(AuthorizationPolicyStatuses {
                kind: RequestAuthenticationObject::KIND,
                cluster: of_cluster(),
            }),
        ];
        kinds.extend(RouteKind::ALL.map(route));
        let watched = |status| WatchedKind {
            status,
            objects: Mutex::default(),
        };
        Self {
            client,
            kinds: kinds.into_iter().map(watched).collect(),
            queue,
        }
    }

    /// Watches and writes. Never ends.
    pub(crate) async fn run(&self) {
        let _writing = self.queue.start_writing();
        let watches = self.kinds.iter().map(|kind| self.watch(kind));
        let writes = write_queued(&self.queue, |object, ()| self.write(object));
        join(join_all(watches), writes).await;
    }

    /// Watches a kind, in whatever version the cluster has it.
    async fn watch(&self, kind: &WatchedKind) {
        loop {
            for resource in kind.status.kind().resources() {
                self.watch_while_there(kind, &resource).await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends when the cluster doesn't have the kind in this version.
    async fn watch_while_there(&self, kind: &WatchedKind, resource: &ApiResource) {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), resource);
        let watch = watcher(api, watcher::Config::default());
        let mut watch = pin!(StreamBackoff::new(watch, DefaultBackoff::default()));
        let mut failing = false;
        while let Some(event) = watch.next().await {
            match event {
                Ok(event) => {
                    failing = false;
                    if let watcher::Event::Delete(object) = &event {
                        let (kind, name) = (kind.status.kind(), name_of(object));
                        self.queue.forget(&ObjectKey { kind, name });
                    }
                    if let Some(name) = kind.see(resource, event) {
                        let kind = kind.status.kind();
                        self.queue.push(ObjectKey { kind, name }, ());
                    }
                }
                // Most clusters have all kinds, and need not.
                Err(error) if is_missing(&error) => return,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let kind = kind.status.kind();
                        tracing::warn!(%kind, %error, "can't watch what needs a status");
                    }
                }
            }
        }
    }

    async fn write(&self, object: ObjectKey) -> Outcome {
        let kind = self.kinds.iter();
        let mut kind = kind.filter(|kind| kind.status.kind() == object.kind);
        match kind.next().and_then(|kind| kind.due(&object.name)) {
            Some(patch) => patch.write(&self.client).await,
            None => Outcome::Written,
        }
    }
}

impl WatchedKind {
    /// Remembers what became of an object; the name of one to look at.
    fn see(
        &self,
        resource: &ApiResource,
        event: watcher::Event<DynamicObject>,
    ) -> Option<NamespacedName> {
        let mut objects = self.lock();
        match event {
            watcher::Event::Apply(mut object) | watcher::Event::InitApply(mut object) => {
                // Half of an object, and nobody looks at it.
                object.metadata.managed_fields = None;
                let name = name_of(&object);
                let resource = resource.clone();
                objects.insert(name.clone(), Seen { resource, object });
                return Some(name);
            }
            watcher::Event::Delete(object) => {
                objects.remove(&name_of(&object));
            }
            watcher::Event::Init => objects.clear(),
            watcher::Event::InitDone => {}
        }
        None
    }

    /// The write that is due for an object. One that isn't there (yet) needs nothing.
    fn due(&self, name: &NamespacedName) -> Option<StatusPatch> {
        let objects = self.lock();
        let Seen { resource, object } = objects.get(name)?;
        let status = self.status.due(object)?;
        let version = object.resource_version();
        Some(StatusPatch {
            resource: resource.clone(),
            name: name.clone(),
            patch: Patch::Merge(json!({
                "metadata": { "resourceVersion": version },
                "status": status,
            })),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NamespacedName, Seen>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(object: &DynamicObject) -> NamespacedName {
    NamespacedName::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> WatchedKind {
        WatchedKind {
            status: Box::new(Accepted::mesh_config()),
            objects: Mutex::default(),
        }
    }

    fn config(version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
            "metadata": { "name": "default", "resourceVersion": version },
            "spec": {},
        }))
        .unwrap()
    }

    fn see(kind: &WatchedKind, event: watcher::Event<DynamicObject>) -> Option<NamespacedName> {
        let resource = kind.status.kind().resources().next().unwrap();
        kind.see(&resource, event)
    }

    #[test]
    fn a_status_is_written_against_the_version_that_was_seen_last() {
        let kind = kind();
        let name = see(&kind, watcher::Event::InitApply(config("1"))).unwrap();
        see(&kind, watcher::Event::Apply(config("2")));
        let patch = kind.due(&name).unwrap();
        let Patch::Merge(patch) = patch.patch else {
            panic!("{patch:?}")
        };
        assert_eq!(patch["metadata"], json!({ "resourceVersion": "2" }));
        assert_eq!(patch["status"]["conditions"][0]["status"], "True");
    }

    #[test]
    fn an_object_that_is_gone_or_not_seen_again_yet_needs_nothing() {
        let kind = kind();
        let applied = || watcher::Event::Apply(config("1"));
        for gone in [watcher::Event::Delete(config("1")), watcher::Event::Init] {
            let name = see(&kind, applied()).unwrap();
            assert!(kind.due(&name).is_some());
            assert_eq!(see(&kind, gone), None);
            assert!(kind.due(&name).is_none());
        }
    }
}
