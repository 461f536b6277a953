//! Kubernetes objects in, mesh resources out. Synchronous and pure: whoever watches
//! applies, whoever serves reads the resources. What a change doesn't affect is not
//! looked at again, so its cost doesn't grow with the mesh.
//!
//! * [`objects`]: what is known: [`tables`] by kind and name, [`references`] between them
//! * [`workloads`]: pods, with what only one can have ([`claims`]), and their [`identities`]
//! * [`services`]: Services and their endpoints
//! * [`externals`]: external services
//! * [`policies`]: the TrafficPolicy that a Service follows
//! * [`routes`]: what a route means among other objects, for agents and for its author
//! * [`published`], [`changes`]: what agents have, and have to be told
//! * [`conflict`]: objects that can't take effect because of others

mod changes;
mod claims;
mod conflict;
mod externals;
mod identities;
mod objects;
mod policies;
mod published;
mod references;
mod routes;
mod services;
mod tables;
mod workloads;

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::SpiffeId;
use weft_model::mesh::Change;
use weft_model::route::RouteKey;
use weft_model::workload::{Workload, WorkloadUid};

use crate::kinds::{Kind, KindObject, Object, ObjectKey, PodObject, ServiceAccountObject};
use crate::source::{Event, Origin};
use changes::Changes;
pub(crate) use conflict::Conflict;
use externals::Externals;
pub(crate) use identities::CertificateDenied;
use objects::Objects;
use policies::Policies;
pub(crate) use policies::{PolicyStatus, PolicyStatuses};
use routes::Routes;
pub(crate) use routes::{Condition, RouteStatus};
use services::Services;
use tables::Tables;
pub(crate) use workloads::CapturedPods;
use workloads::Workloads;

/// The namespace of the control plane where nobody says another.
const DEFAULT_MESH_NAMESPACE: &str = "weft-system";

/// All objects, which pods are captured, and what follows from both.
#[derive(Debug)]
pub(crate) struct Index {
    objects: Objects,
    /// The source tells of all ServiceAccounts, so that one that is missing doesn't exist.
    lists_service_accounts: bool,
    workloads: Workloads,
    services: Services,
    externals: Externals,
    policies: Policies,
    routes: Routes,
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
            objects: Objects::default(),
            lists_service_accounts: false,
            workloads: Workloads::default(),
            services: Services::default(),
            externals: Externals::of_mesh_namespace(namespace),
            policies: Policies::default(),
            routes: Routes::default(),
        }
    }

    /// Applies what became of an object, or of all of a kind.
    pub(crate) fn handle_event(&mut self, event: Event) {
        match event {
            Event::Applied(origin, object) => self.apply(origin, object),
            Event::Deleted(origin, key) => self.delete(&origin, &key),
            Event::Replaced(kind, objects) => self.replace(kind, objects),
        }
    }

    /// These pods are captured, all others are not, other than those that say so
    /// themselves.
    pub(crate) fn set_captured(&mut self, captured: CapturedPods) {
        self.workloads.set_captured(captured);
    }

    /// The pod of that UID, as agents are told of it.
    pub(crate) fn workload(&self, uid: &WorkloadUid) -> Option<&Workload> {
        self.workloads.get(uid)
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

    /// Lets a node have a certificate for an identity.
    ///
    /// # Errors
    /// The reason for which it gets none.
    pub(crate) fn authorize_certificate(
        &self,
        identity: &SpiffeId,
        node: &str,
    ) -> Result<(), CertificateDenied> {
        let lists_accounts = self.lists_service_accounts;
        self.workloads
            .authorize_certificate(&self.objects, identity, node, lists_accounts)
    }

    /// The status of every TrafficPolicy.
    pub(crate) fn policy_statuses(&self) -> &Arc<PolicyStatuses> {
        self.policies.statuses()
    }

    /// The status of a route that is known.
    pub(crate) fn route_status(&self, route: &RouteKey) -> Option<&Arc<RouteStatus>> {
        self.routes.status(route)
    }

    /// Routes whose status is another since the last call.
    pub(crate) fn changed_route_statuses(&mut self) -> BTreeSet<RouteKey> {
        self.routes.take_changed_statuses()
    }

    /// Objects that had to be left out.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        let workloads = self.workloads.conflicts();
        let left_out = workloads
            .chain(self.policies.conflicts())
            .chain(self.routes.conflicts());
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
        workloads.update(objects, services, &mut changes);
        let listed = |pod: &PodObject| workloads.pod(&pod.uid) == Some(&pod.key);
        services.update(objects, &listed, &mut changes);
        self.externals.update(objects, &mut changes);
        self.policies.update(objects, &mut changes);
        self.routes.update(objects, &mut changes);
        changes.in_order(|change| match change {
            // It may have passed to another pod.
            Change::WorkloadRemoved(uid) => workloads.pod(uid).is_some(),
            _ => false,
        })
    }

    fn apply(&mut self, origin: Origin, object: Object) {
        let key = object.key();
        // Kubernetes tells of many changes that aren't any to the mesh.
        if !self.objects.tables.contains(&origin, &key, &object) {
            self.change(&key, |tables| tables.insert(&key, origin, object));
        }
    }

    fn delete(&mut self, origin: &Origin, key: &ObjectKey) {
        self.change(key, |tables| tables.remove(key, origin));
    }

    fn replace(&mut self, kind: Kind, objects: Vec<Object>) {
        self.lists_service_accounts |= kind == ServiceAccountObject::KIND;
        let keys: BTreeSet<_> = objects.iter().map(Object::key).collect();
        for (origin, key) in self.objects.tables.keys(kind) {
            if !keys.contains(&key) || !origin.is_empty() {
                self.delete(&origin, &key);
            }
        }
        for object in objects {
            self.apply(Origin::new(), object);
        }
    }

    /// Changes the object of a key, and marks as dirty what the one before had a part in
    /// and what the one after has.
    fn change(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Tables)) {
        self.mark_dirty(key);
        if let Some(Object::Pod(pod)) = self.objects.tables.object(key) {
            self.workloads.unclaim(pod);
        }
        self.objects.change(key, change);
        if let Some(Object::Pod(pod)) = self.objects.tables.object(key) {
            self.workloads.claim(pod);
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
                let pods = &mut self.workloads;
                pods.mark_namespace_dirty(objects, &namespace.name);
            }
            Some(Object::Node(node)) => {
                let pods = &mut self.workloads;
                pods.mark_pods_dirty(objects, |pod| pod.node == node.name);
            }
            Some(Object::MeshConfig(_)) => self.workloads.mark_pods_dirty(objects, |_| true),
            // Asked for when a certificate is.
            Some(Object::ServiceAccount(_)) => {}
            Some(Object::Service(object)) => {
                let name = &object.service.key;
                self.services.mark_dirty(name);
                self.policies.mark_target_dirty(name, objects);
                self.routes.mark_referring_dirty(name, objects);
            }
            Some(Object::EndpointSlice(slice)) => self.services.mark_dirty(&slice.service),
            Some(Object::ExternalService(object)) => {
                self.externals.mark_dirty(&object.service.key);
            }
            Some(Object::TrafficPolicy(policy)) => self.policies.mark_dirty(policy),
            Some(Object::Route(route)) => self.routes.mark_dirty(route, objects),
        }
    }
}

#[cfg(test)]
mod tests;
