//! The cluster as it is known now, and what follows for agents: events in, revisions out.
//!
//! * [`admission`]: what is asked of objects that aren't there yet, and of nodes and namespaces

mod admission;
mod key_sets;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;
use weft_model::mesh::Change;
use weft_model::revocation::RevocationList;
use weft_model::route::RouteKey;
use weft_model::workload::WorkloadUid;
use weft_model::{NamespacedName, SpiffeId};

use crate::index::{
    AuthorizationStatus, CapturedPods, CertificateDenied, GatedPod, Index, MeshSidecars,
    PolicyStatus, PolicyStatuses, RouteStatus,
};
use crate::kinds::{
    Kind, KindObject, ObjectKey, PodObject, RequestAuthenticationObject, TrafficPolicyObject,
};
use crate::notices::{Notice, Notices};
use crate::publish::Resources;
use crate::source::Event;
use crate::status::StatusQueue;

/// Objects whose status may have to say something else.
pub(crate) type ObjectStatuses = StatusQueue<ObjectKey>;

/// The index and the published resources, behind their locks. These are held briefly,
/// never across a wait; who takes both takes them in the order of the fields.
#[derive(Debug)]
pub(crate) struct Cluster {
    known: Mutex<Known>,
    resources: RwLock<Resources>,
    /// The revision of the resources, for those that wait for the next.
    revision: watch::Sender<u64>,
    /// Objects that wait for the writer of statuses; in a directory there is none.
    statuses: Option<Arc<ObjectStatuses>>,
    /// Tells whoever looks at an object; in a directory nobody does.
    notices: Option<Notices>,
}

#[derive(Debug, Default)]
struct Known {
    index: Index,
    /// Those that were logged already.
    conflicts: BTreeSet<String>,
    policy_statuses: Arc<PolicyStatuses>,
}

/// A pod as its own status has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PodStatus {
    pub(crate) name: NamespacedName,
    pub(crate) uid: WorkloadUid,
    pub(crate) node: String,
    /// Its condition says that its node has captured it.
    pub(crate) captured: bool,
    /// It isn't ready before its condition is True.
    pub(crate) has_gate: bool,
    /// Its proxy is its sidecar.
    pub(crate) is_sidecar: bool,
}

/// A pod whose proxy is its sidecar.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SidecarPod {
    pub(crate) uid: WorkloadUid,
    pub(crate) node: Arc<str>,
}

impl Cluster {
    /// Objects of a directory, which have no status.
    pub(crate) fn of_directory() -> Self {
        Self::new(Index::default(), None)
    }

    /// Objects of an API server. Those whose status may change are put in the queue.
    pub(crate) fn of_api_server(mesh_namespace: &str, statuses: Arc<ObjectStatuses>) -> Self {
        Self::new(Index::of_mesh_namespace(mesh_namespace), Some(statuses))
    }

    /// Tells whoever looks at an object by its Events.
    pub(crate) fn with_notices(self, notices: Notices) -> Self {
        Self {
            notices: Some(notices),
            ..self
        }
    }

    /// Injects these sidecars, and knows them again.
    pub(crate) fn with_sidecars(self, sidecars: MeshSidecars) -> Self {
        self.set_sidecars(sidecars);
        self
    }

    /// Knows these sidecars again, and no others.
    pub(crate) fn set_sidecars(&self, sidecars: MeshSidecars) {
        let mut known = self.lock();
        known.index.set_sidecars(sidecars);
        self.publish(&mut known);
    }

    fn new(index: Index, statuses: Option<Arc<ObjectStatuses>>) -> Self {
        let known = Known {
            index,
            ..Known::default()
        };
        Self {
            known: Mutex::new(known),
            resources: RwLock::default(),
            revision: watch::Sender::new(0),
            statuses,
            notices: None,
        }
    }

    /// Applies what became of objects, and publishes what follows.
    pub(crate) fn apply_events(&self, events: Vec<Event>) {
        let mut known = self.lock();
        for event in events {
            known.index.handle_event(event);
        }
        self.publish(&mut known);
    }

    /// These pods are captured, and no others but those whose status says so.
    pub(crate) fn set_captured(&self, captured: CapturedPods) {
        let mut known = self.lock();
        known.index.set_captured(captured);
        self.publish(&mut known);
    }

    /// These certificates are revoked, and no others.
    pub(crate) fn set_revocations(&self, list: &RevocationList) {
        // Revisions are in order as long as one publishes at a time.
        let _known = self.lock();
        let change = match list.is_empty() {
            true => Change::RevocationListRemoved,
            false => Change::RevocationList(list.clone()),
        };
        self.publish_changes(vec![change]);
    }

    /// Everything that agents are told now.
    pub(crate) fn resources(&self) -> RwLockReadGuard<'_, Resources> {
        self.resources
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the resources; changes whenever they do.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Lets a node have a certificate for an identity.
    ///
    /// # Errors
    /// The reason to give it none.
    pub(crate) fn authorize_certificate(
        &self,
        identity: &SpiffeId,
        node: &str,
    ) -> Result<(), CertificateDenied> {
        self.lock().index.authorize_certificate(identity, node)
    }

    /// Lets a pod's own sidecar have a certificate for an identity.
    ///
    /// # Errors
    /// The reason to give it none.
    pub(crate) fn authorize_pod_certificate(
        &self,
        identity: &SpiffeId,
        pod: &WorkloadUid,
    ) -> Result<(), CertificateDenied> {
        self.lock().index.authorize_pod_certificate(identity, pod)
    }

    /// The pod of that name that has a sidecar.
    pub(crate) fn sidecar_pod(&self, name: &NamespacedName) -> Option<SidecarPod> {
        let known = self.lock();
        let workload = known.index.workload_of_pod(name)?;
        workload.is_sidecar.then(|| SidecarPod {
            uid: workload.uid.clone(),
            node: Arc::clone(&workload.node),
        })
    }

    /// A pod of that name, and of that UID where one is said, is known and has no sidecar.
    pub(crate) fn has_no_sidecar(&self, name: &NamespacedName, uid: Option<&WorkloadUid>) -> bool {
        let known = self.lock();
        let workload = known.index.workload_of_pod(name);
        workload.is_some_and(|workload| {
            !workload.is_sidecar && uid.is_none_or(|uid| *uid == workload.uid)
        })
    }

    /// The pod's proxy is its sidecar.
    pub(crate) fn is_sidecar(&self, pod: &WorkloadUid) -> bool {
        self.lock().is_sidecar(pod)
    }

    /// The node of a pod that agents know.
    pub(crate) fn node_of(&self, pod: &WorkloadUid) -> Option<Arc<str>> {
        let known = self.lock();
        let workload = known.index.workload(pod)?;
        Some(Arc::clone(&workload.node))
    }

    /// A pod, as its own status has it.
    pub(crate) fn pod_status(&self, pod: &WorkloadUid) -> Option<PodStatus> {
        let known = self.lock();
        let status = PodStatus::of(known.index.pod(pod)?);
        let is_sidecar = known.is_sidecar(pod);
        Some(PodStatus {
            is_sidecar,
            ..status
        })
    }

    /// Pods of a node whose own status says that its agent has captured them.
    pub(crate) fn captured_pods(&self, node: &str) -> Vec<PodStatus> {
        let known = self.lock();
        let pods = known.index.pods();
        let is_sidecar = |pod: &PodObject| known.is_sidecar(&pod.uid);
        let pods = pods.filter(|pod| pod.node == node && pod.captured && !is_sidecar(pod));
        pods.map(PodStatus::of).collect()
    }

    /// Pods whose readiness waits for the mesh.
    pub(crate) fn gated_pods(&self) -> Vec<GatedPod> {
        self.lock().index.gated_pods().collect()
    }

    /// The status that a route should have.
    pub(crate) fn route_status(&self, route: &RouteKey) -> Option<Arc<RouteStatus>> {
        self.lock().index.route_status(route).cloned()
    }

    /// The status that a TrafficPolicy should have.
    pub(crate) fn policy_status(&self, policy: &NamespacedName) -> Option<PolicyStatus> {
        self.lock().policy_statuses.get(policy).cloned()
    }

    /// The status that an AuthorizationPolicy should have.
    pub(crate) fn authorization_status(
        &self,
        policy: &NamespacedName,
    ) -> Option<AuthorizationStatus> {
        self.lock().index.authorization_status(policy).cloned()
    }

    /// Objects that are left out because of others.
    pub(crate) fn conflicts(&self) -> Vec<String> {
        self.lock().conflicts.iter().cloned().collect()
    }

    fn publish(&self, known: &mut Known) {
        let changes = known.index.changes();
        for notice in known.log_conflicts() {
            if let Some(notices) = &self.notices {
                notices.tell(notice);
            }
        }
        let statuses = known.changed_statuses();
        if let Some(queue) = &self.statuses {
            for object in statuses {
                // Also one that means nothing to the mesh any more: what we said of it may
                // have to go.
                queue.push_if_written(object, ());
            }
        }
        self.publish_changes(changes);
    }

    fn publish_changes(&self, changes: Vec<Change>) {
        let mut resources = self
            .resources
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if resources.apply(changes) {
            let revision = resources.revision();
            drop(resources);
            self.revision.send_replace(revision);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_sidecar(&self, pod: &WorkloadUid) -> bool {
        let workload = self.index.workload(pod);
        workload.is_some_and(|workload| workload.is_sidecar)
    }

    /// What there is to tell of those that are new.
    fn log_conflicts(&mut self) -> Vec<Notice> {
        let before = std::mem::take(&mut self.conflicts);
        let mut notices = Vec::new();
        for conflict in self.index.conflicts() {
            let text = conflict.to_string();
            if !before.contains(&text) {
                tracing::error!("{text}");
                notices.extend(conflict.notice());
            }
            self.conflicts.insert(text);
        }
        notices
    }

    /// Objects whose status may be another than before, or none any more.
    fn changed_statuses(&mut self) -> BTreeSet<ObjectKey> {
        let mut changed = BTreeSet::new();
        for route in self.index.changed_route_statuses() {
            let RouteKey { kind, name } = route;
            let kind = Kind::from(kind);
            changed.insert(ObjectKey { kind, name });
        }
        let policies = self.index.changed_authorization_statuses();
        let policies = policies.iter();
        changed.extend(policies.map(RequestAuthenticationObject::object_of_told));
        let statuses = self.index.policy_statuses();
        if !Arc::ptr_eq(statuses, &self.policy_statuses) {
            let before = std::mem::replace(&mut self.policy_statuses, Arc::clone(statuses));
            for name in before.keys().chain(statuses.keys()) {
                let now = statuses.get(name);
                if before.get(name) != now {
                    let (kind, name) = (TrafficPolicyObject::KIND, name.clone());
                    changed.insert(ObjectKey { kind, name });
                }
            }
        }
        changed
    }
}

impl PodStatus {
    /// Of one that its node's agent serves.
    fn of(pod: &PodObject) -> Self {
        Self {
            name: pod.key.clone(),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
            captured: pod.captured,
            has_gate: pod.has_gate,
            is_sidecar: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Origin;
    use crate::source::manifest::parse;

    #[test]
    fn a_status_that_has_to_go_is_not_forgotten() {
        let queue = Arc::new(ObjectStatuses::default());
        let _writing = queue.start_writing();
        let cluster = Cluster::of_api_server("weft-system", Arc::clone(&queue));
        let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                    metadata: { name: web, namespace: shop }\n\
                    spec: { parentRefs: [{ group: '', kind: Service, name: web, port: 80 }] }\n";
        let object = parse(text).unwrap().remove(0);
        let route = object.key();
        cluster.apply_events(vec![Event::Applied(Origin::new(), object)]);
        assert_eq!(queue.pop(|_| true), Some((route.clone(), ())));
        // Its watch says so before the cluster knows; to that it is as good as deleted.
        queue.push(route.clone(), ());
        cluster.apply_events(vec![Event::Deleted(Origin::new(), route.clone())]);
        assert_eq!(queue.pop(|_| true), Some((route, ())));
    }
}
