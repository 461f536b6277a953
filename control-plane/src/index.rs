//! Kubernetes objects in, mesh resources out. Synchronous and pure: whoever watches
//! applies, whoever serves reads the resources. What a change doesn't affect is not
//! looked at again, so its cost doesn't grow with the mesh.
//!
//! * [`objects`]: what is known: [`tables`] by kind and name, [`references`] between them
//! * [`workloads`]: pods, with what only one can have ([`claims`]), their [`identities`], and
//!   their part in NetworkPolicies ([`policy_membership`]) and AuthorizationPolicies
//!   ([`authorization_membership`]); [`workload`]: one of them, by the [`settings`] that hold for
//!   it, and which of their [`sidecars`] count
//! * [`namespaces`]: what they ask for in vain
//! * [`admission`]: objects that aren't there yet; [`placement`]: where they may land
//! * [`gated_pods`]: pods whose readiness waits for the mesh
//! * [`services`]: Services and their endpoints
//! * [`externals`]: external services
//! * [`nodes`]: nodes of the cluster
//! * [`policies`]: the TrafficPolicy that a Service follows
//! * [`network_policies`]: the rules of NetworkPolicies; [`peer_selectors`]: the pods that
//!   they name as peers
//! * [`authorization_policies`]: the rules of AuthorizationPolicies; [`http_rules`]: those on ports
//!   that carry no HTTP; [`authorization_budget`]: those that are too many; [`key_sets`]: keys that
//!   were fetched for RequestAuthentications
//! * [`routes`]: what a route means among other objects, for agents and for its author
//! * [`statuses`]: what objects are told; [`look_ups`]: what is asked of nodes and namespaces
//! * [`published`], [`changes`]: what agents have, and have to be told
//! * [`conflict`]: objects that can't take effect because of others

mod admission;
mod authorization_budget;
mod authorization_membership;
mod authorization_policies;
mod certificates;
mod changes;
mod claims;
mod conflict;
mod externals;
mod gated_pods;
mod http_rules;
mod identities;
mod key_sets;
mod look_ups;
mod namespaces;
mod network_policies;
mod nodes;
mod objects;
mod peer_selectors;
mod placement;
mod policies;
mod policy_membership;
mod published;
mod references;
mod routes;
mod services;
mod settings;
mod sidecars;
mod statuses;
mod tables;
mod workload;
mod workloads;

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use weft_model::mesh::Change;
use weft_model::workload::WorkloadUid;

use crate::kinds::{
    FieldError, Kind, KindObject, Object, ObjectKey, PodObject, RequestAuthenticationObject,
    ServiceAccountObject,
};
use crate::source::{Event, Origin, Unreadable};
pub(crate) use admission::AdmittedPod;
use authorization_policies::AuthorizationPolicies;
pub(crate) use authorization_policies::AuthorizationStatus;
use changes::Changes;
pub(crate) use conflict::Conflict;
use externals::Externals;
pub(crate) use gated_pods::{GatedPod, Place};
pub(crate) use identities::CertificateDenied;
pub(crate) use key_sets::{FetchedKeys, KeySources};
use namespaces::Namespaces;
use network_policies::NetworkPolicies;
use nodes::Nodes;
use objects::Objects;
pub(crate) use placement::Placement;
use policies::Policies;
pub(crate) use policies::{PolicyStatus, PolicyStatuses};
use routes::Routes;
pub(crate) use routes::{Condition, RouteStatus};
use services::Services;
pub(crate) use sidecars::MeshSidecars;
use tables::Tables;
pub(crate) use workloads::CapturedPods;
use workloads::Workloads;

/// The namespace of the control plane where nobody says another.
const DEFAULT_MESH_NAMESPACE: &str = "weft-system";

/// All objects, which pods are captured, and what follows from both.
#[derive(Debug)]
pub(crate) struct Index {
    objects: Objects,
    /// Objects that were never read, with what stands in for them.
    substituted: BTreeSet<ObjectKey>,
    /// The source tells of all ServiceAccounts, so that one that is missing doesn't exist.
    lists_service_accounts: bool,
    namespaces: Namespaces,
    workloads: Workloads,
    services: Services,
    externals: Externals,
    nodes: Nodes,
    policies: Policies,
    routes: Routes,
    network_policies: NetworkPolicies,
    authorization_policies: AuthorizationPolicies,
}

impl Default for Index {
    fn default() -> Self {
        Self::of_mesh_namespace(DEFAULT_MESH_NAMESPACE)
    }
}

impl Index {
    /// Nothing yet, of a mesh whose control plane is in that namespace.
    pub(crate) fn of_mesh_namespace(namespace: &str) -> Self {
        Self {
            objects: Objects {
                mesh_namespace: namespace.into(),
                ..Objects::default()
            },
            substituted: BTreeSet::new(),
            lists_service_accounts: false,
            namespaces: Namespaces::default(),
            workloads: Workloads::default(),
            services: Services::default(),
            externals: Externals::default(),
            nodes: Nodes::default(),
            policies: Policies::default(),
            routes: Routes::default(),
            network_policies: NetworkPolicies::default(),
            authorization_policies: AuthorizationPolicies::default(),
        }
    }

    /// Applies what became of an object, or of all of a kind.
    pub(crate) fn handle_event(&mut self, event: Event) {
        match event {
            Event::Applied(origin, object) => self.apply(origin, object),
            Event::Deleted(origin, key) => self.delete(&origin, &key),
            Event::Unreadable(origin, what) => self.keep(&origin, what),
            Event::Replaced(kind, objects, unreadable) => self.replace(kind, objects, unreadable),
        }
    }

    /// These pods are captured, all others are not, other than those that say so
    /// themselves.
    pub(crate) fn set_captured(&mut self, captured: CapturedPods) {
        self.workloads.set_captured(captured);
    }

    /// The pod of that UID, as it says itself.
    pub(crate) fn pod(&self, uid: &WorkloadUid) -> Option<&PodObject> {
        self.objects.tables.get(self.workloads.pod(uid)?)
    }

    /// All pods, as they say themselves.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodObject> {
        let pods = self.workloads.pods();
        pods.filter_map(|name| self.objects.tables.get(name))
    }

    /// Whether the pods of a namespace are in the mesh unless they say otherwise.
    pub(crate) fn is_enrolled(&self, namespace: &str) -> bool {
        admission::is_enrolled(&self.objects, namespace)
    }

    /// The wishes of an object that isn't there yet that would have no effect.
    pub(crate) fn refused_by_floor(
        &self,
        kind: Kind,
        namespace: &str,
        object: &DynamicObject,
    ) -> Vec<FieldError> {
        admission::refused_by_floor(&self.objects, kind, namespace, object)
    }

    /// A pod that isn't there yet is to be in the mesh, and to be ready no sooner.
    pub(crate) fn needs_gate(
        &self,
        namespace: &str,
        pod: &DynamicObject,
        is_namespace_in: bool,
    ) -> bool {
        admission::needs_gate(&self.objects, namespace, pod, is_namespace_in)
    }

    /// A pod that isn't there yet and is to be in the mesh.
    pub(crate) fn admitted_pod(
        &self,
        namespace: &str,
        pod: &DynamicObject,
        is_namespace_in: bool,
    ) -> Option<AdmittedPod> {
        admission::admitted_pod(&self.objects, namespace, pod, is_namespace_in)
    }

    /// Pods whose readiness waits for the mesh.
    pub(crate) fn gated_pods(&self) -> impl Iterator<Item = GatedPod> {
        gated_pods::all(&self.objects, &self.workloads)
    }

    /// Objects that had to be left out.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        let workloads = self.workloads.conflicts();
        let left_out = workloads
            .chain(self.namespaces.conflicts())
            .chain(self.policies.conflicts())
            .chain(self.routes.conflicts())
            .chain(self.authorization_policies.conflicts())
            .chain(self.objects.peer_selectors.conflicts());
        left_out.chain(self.objects.tables.duplicates())
    }

    /// The changes that follow from all events since the last call, in an order in which no resource
    /// comes before what it refers to.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let Self {
            objects,
            workloads,
            services,
            ..
        } = self;
        let mut changes = Changes::default();
        let peers = objects.count_peer_selectors();
        self.namespaces.update(objects);
        workloads.mark_peers_dirty(&peers, objects);
        for name in objects.count_authorization_policies() {
            self.authorization_policies.mark_dirty(&name);
            if let Some(policy) = objects.authorization_policy(&name) {
                workloads.mark_authorization_policy_dirty(policy, objects);
            }
        }
        workloads.update(objects, services, &mut changes);
        let listed = |pod: &PodObject| workloads.pod(&pod.uid) == Some(&pod.key);
        services.update(objects, &listed, &mut changes);
        self.externals.update(objects, &mut changes);
        self.nodes.update(objects, &mut changes);
        self.policies.update(objects, &mut changes);
        self.routes.update(objects, &mut changes);
        self.network_policies.update(objects, &mut changes);
        let selected = workloads.authorized();
        let policies = &mut self.authorization_policies;
        policies.update(objects, selected, &mut changes);
        changes.in_order(|change| match change {
            // It may have passed to another pod.
            Change::WorkloadRemoved(uid) => workloads.pod(uid).is_some(),
            _ => false,
        })
    }

    fn apply(&mut self, origin: Origin, mut object: Object) {
        let key = object.key();
        self.substituted.remove(&key);
        if let Some(before) = self.objects.tables.of_origin(&origin, &key) {
            object.keep_last_good(before);
        }
        // Kubernetes tells of many changes that aren't any to the mesh.
        if !self.objects.tables.contains(&origin, &key, &object) {
            self.change(&key, |tables| tables.insert(&key, origin, object));
        }
    }

    fn delete(&mut self, origin: &Origin, key: &ObjectKey) {
        self.substituted.remove(key);
        self.change(key, |tables| tables.remove(key, origin));
    }

    /// An object can't be read: it stays what it was, else what stands in for it counts.
    fn keep(&mut self, origin: &Origin, unreadable: Unreadable) {
        let Unreadable {
            key,
            uid,
            substitute,
        } = unreadable;
        let known = self.objects.tables.of_origin(origin, &key);
        let is_other = |known: &Object| match known {
            // Names of pods are given again.
            Object::Pod(pod) => uid.as_ref().is_some_and(|uid| pod.uid.as_str() != uid),
            _ => self.substituted.contains(&key),
        };
        if known.is_some_and(|known| !is_other(known)) {
            return;
        }
        match substitute {
            None => self.delete(origin, &key),
            Some(substitute) => {
                self.apply(origin.clone(), substitute);
                self.substituted.insert(key);
            }
        }
    }

    fn replace(&mut self, kind: Kind, objects: Vec<Object>, unreadable: Vec<Unreadable>) {
        self.lists_service_accounts |= kind == ServiceAccountObject::KIND;
        let keys: BTreeSet<_> = objects.iter().map(Object::key).collect();
        let kept: BTreeSet<_> = unreadable.iter().map(|what| &what.key).collect();
        for (origin, key) in self.objects.tables.keys(kind) {
            if !keys.contains(&key) && !kept.contains(&key) || !origin.is_empty() {
                self.delete(&origin, &key);
            }
        }
        for object in objects {
            self.apply(Origin::new(), object);
        }
        for what in unreadable {
            self.keep(&Origin::new(), what);
        }
    }

    /// Changes the object of a key, and marks as dirty what the one before had a part in
    /// and what the one after has.
    fn change(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Tables)) {
        self.mark_dirty(key);
        let mut before = Vec::new();
        if let Some(Object::Pod(pod)) = self.objects.tables.object(key) {
            self.workloads.unclaim(pod);
            before.clone_from(&pod.addresses);
        }
        self.objects.change(key, change);
        if let Some(Object::Pod(pod)) = self.objects.tables.object(key) {
            self.workloads.claim(pod);
            if pod.addresses != before {
                self.services.mark_naming(&pod.key, &self.objects);
            }
        }
        self.mark_dirty(key);
    }

    /// Marks as dirty what an object has a part in.
    fn mark_dirty(&mut self, key: &ObjectKey) {
        let objects = &self.objects;
        match objects.tables.object(key) {
            None => {}
            Some(Object::Pod(pod)) => self.workloads.mark_dirty(&pod.key),
            Some(Object::Namespace(namespace)) => {
                self.namespaces.mark_dirty(&namespace.name);
                let pods = &mut self.workloads;
                pods.mark_namespace_dirty(objects, &namespace.name);
            }
            Some(Object::Node(object)) => {
                let pods = &mut self.workloads;
                pods.mark_pods_dirty(objects, |pod| *pod.node == *object.node.name);
                self.nodes.mark_dirty(object.name());
            }
            Some(Object::MeshConfig(_)) => {
                self.namespaces.mark_all_dirty(objects);
                self.workloads.mark_pods_dirty(objects, |_| true);
            }
            // Asked for when a certificate is, or a pod is made.
            Some(Object::ServiceAccount(_) | Object::RuntimeClass(_)) => {}
            Some(Object::Service(object)) => {
                let name = &object.service.key;
                self.services.mark_dirty(name);
                self.policies.mark_target_dirty(name, objects);
                self.routes.mark_referring_dirty(name, objects);
                self.workloads.mark_service_dirty(name, objects);
                let policies = &mut self.authorization_policies;
                policies.mark_service_dirty(name, objects);
            }
            Some(Object::EndpointSlice(slice)) => {
                self.services.mark_dirty(&slice.service);
                self.workloads.mark_service_dirty(&slice.service, objects);
            }
            Some(Object::ExternalService(object)) => {
                self.externals.mark_dirty(&object.service.key);
            }
            Some(Object::TrafficPolicy(policy)) => self.policies.mark_dirty(policy),
            Some(Object::Route(route)) => self.routes.mark_dirty(route, objects),
            Some(Object::ReferenceGrant(grant)) => self.routes.mark_granted_dirty(grant, objects),
            Some(Object::NetworkPolicy(policy)) => {
                self.network_policies.mark_dirty(&policy.policy.key);
                self.workloads.mark_network_policy_dirty(policy, objects);
            }
            Some(
                Object::AuthorizationPolicy(policy)
                | Object::RequestAuthentication(RequestAuthenticationObject { policy, .. }),
            ) => {
                self.authorization_policies.mark_dirty(&policy.key);
                let pods = &mut self.workloads;
                pods.mark_authorization_policy_dirty(policy, objects);
            }
        }
    }
}

#[cfg(test)]
mod tests;
