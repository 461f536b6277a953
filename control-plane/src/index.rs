//! Kubernetes objects in, mesh resources out. Synchronous and pure: whoever watches
//! applies, whoever serves reads the resources. What a change doesn't affect is not
//! looked at again, so its cost doesn't grow with the mesh.
//!
//! * [`objects`]: what is known, by name, and who refers to whom
//! * [`compute`]: from objects to one workload, or to one service's endpoints
//! * [`policies`]: which TrafficPolicy a Service follows
//! * [`routes`]: what a route means among other objects, for agents and for its author
//! * [`resources`]: what agents are told, and what of it changed since when

mod compute;
mod conflict;
mod externals;
mod objects;
mod policies;
mod resources;
mod routes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::external::ExternalService;
use weft_model::mesh::Change;
use weft_model::route::{Route, RouteKey};
use weft_model::service::{Endpoint, EndpointKey, Service};
use weft_model::traffic::TrafficPolicy;
use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{NamespacedName, SpiffeId};

use crate::manifest::{Kind, Object, ObjectKey, PodObject};
use crate::source::{Event, Origin};
pub(crate) use conflict::Conflict;
use objects::{Names, Objects};
pub(crate) use policies::{PolicyStatus, PolicyStatuses};
pub(crate) use resources::{ResourceKey, Resources};
pub(crate) use routes::{Condition, RouteStatus};

/// Captured pods, each with the node that reports it.
pub(crate) type CapturedPods = HashMap<WorkloadUid, Arc<str>>;

/// All objects, which pods are captured, and what follows from both.
#[derive(Debug, Default)]
pub(crate) struct Index {
    objects: Objects,
    captured: CapturedPods,
    /// Whether the source tells of all ServiceAccounts, so that one that is missing
    /// doesn't exist.
    lists_service_accounts: bool,
    /// Which pods claim what only one can have.
    claims: HashMap<Claim, BTreeSet<Claimant>>,
    /// What became different since the last [`Index::changes`].
    dirty_pods: Names,
    dirty_services: Names,
    dirty_externals: Names,
    mesh_namespace: MeshNamespace,
    dirty_policies: Names,
    /// Services whose TrafficPolicies did.
    dirty_targets: Names,
    dirty_routes: BTreeSet<RouteKey>,
    /// Routes whose status is another since [`Index::changed_route_statuses`] was asked.
    changed_route_statuses: BTreeSet<RouteKey>,
    published: Published,
}

/// The namespace whose external services are there for everybody's workloads: the control
/// plane's own.
#[derive(Debug)]
struct MeshNamespace(Arc<str>);

impl Default for MeshNamespace {
    fn default() -> Self {
        Self("weft-system".into())
    }
}

/// Why a node gets no certificate for an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum CertificateDenied {
    /// It serves nobody who is that.
    #[error("no enrolled pod of the node has that identity")]
    NoPod,
    /// Whoever deleted the ServiceAccount took the identity away, as it takes tokens
    /// away, although pods that had it go on running.
    #[error("the ServiceAccount of that identity doesn't exist")]
    NoServiceAccount,
}

/// What only one pod can have.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Claim {
    Address(IpAddr),
    Uid(WorkloadUid),
}

/// A pod that claims something. Of several, the first has it: the newest, as a pod
/// that is just ending may still list an address that another has got by now.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Claimant {
    created: Reverse<i64>,
    pod: NamespacedName,
}

impl Claimant {
    fn of(pod: &PodObject) -> Self {
        Self {
            created: Reverse(pod.created),
            pod: pod.key.clone(),
        }
    }
}

/// Resources and statuses as the last [`Index::changes`] left them.
#[derive(Debug, Default)]
struct Published {
    /// By pod.
    workloads: HashMap<NamespacedName, Workload>,
    services: HashMap<NamespacedName, Service>,
    endpoints: HashMap<NamespacedName, BTreeMap<IpAddr, Endpoint>>,
    externals: HashMap<NamespacedName, ExternalService>,
    /// Pods that had to be left out.
    left_out: BTreeMap<NamespacedName, Conflict>,
    /// How many enrolled pods of a node have an identity.
    identities: HashMap<(Arc<str>, SpiffeId), usize>,
    /// Which pod has a UID.
    pods: HashMap<WorkloadUid, NamespacedName>,
    /// By the Service that follows it.
    policies: HashMap<NamespacedName, TrafficPolicy>,
    policy_statuses: Arc<PolicyStatuses>,
    /// Policies that nobody follows.
    policy_conflicts: BTreeMap<NamespacedName, Conflict>,
    routes: HashMap<RouteKey, Route>,
    route_statuses: HashMap<RouteKey, Arc<RouteStatus>>,
    /// Routes that are not in force as they should be.
    route_conflicts: BTreeMap<RouteKey, Vec<Conflict>>,
}

impl Index {
    /// Nothing yet, of a mesh whose control plane is in that namespace.
    pub(crate) fn of_mesh_namespace(namespace: &str) -> Self {
        Self {
            mesh_namespace: MeshNamespace(namespace.into()),
            ..Self::default()
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

    fn apply(&mut self, origin: Origin, object: Object) {
        // Kubernetes tells of many changes that aren't any to the mesh.
        if self.objects.contains(&origin, &object) {
            return;
        }
        let key = object.key();
        self.mark_dirty(&key);
        self.unclaim(&key);
        self.objects.insert(origin, object);
        self.claim(&key);
        self.mark_dirty(&key);
    }

    fn delete(&mut self, origin: &Origin, key: &ObjectKey) {
        self.mark_dirty(key);
        self.unclaim(key);
        self.objects.remove(origin, key);
        self.claim(key);
        self.mark_dirty(key);
    }

    fn replace(&mut self, kind: Kind, objects: Vec<Object>) {
        self.lists_service_accounts |= kind == Kind::ServiceAccount;
        let keys: BTreeSet<_> = objects.iter().map(Object::key).collect();
        for (origin, key) in self.objects.of_kind(kind) {
            if !keys.contains(&key) || !origin.is_empty() {
                self.delete(&origin, &key);
            }
        }
        for object in objects {
            self.apply(Origin::new(), object);
        }
    }

    /// These pods are captured, all others are not, other than those that say so
    /// themselves.
    pub(crate) fn set_captured(&mut self, captured: CapturedPods) {
        let changed = captured
            .iter()
            .filter(|(uid, node)| self.captured.get(*uid) != Some(*node))
            .map(|(uid, _)| uid)
            .chain(
                self.captured
                    .keys()
                    .filter(|uid| !captured.contains_key(*uid)),
            );
        let pods = changed.filter_map(|uid| self.published.pods.get(uid).cloned());
        self.dirty_pods.extend(pods);
        self.captured = captured;
    }

    /// The pod of that UID, as agents are told of it.
    pub(crate) fn workload(&self, uid: &WorkloadUid) -> Option<&Workload> {
        self.published.workloads.get(self.published.pods.get(uid)?)
    }

    /// The pod of that UID, as it says itself.
    pub(crate) fn pod(&self, uid: &WorkloadUid) -> Option<&PodObject> {
        self.objects.pods.get(self.published.pods.get(uid)?)
    }

    /// All pods, as they say themselves.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodObject> {
        let pods = self.published.pods.values();
        pods.filter_map(|name| self.objects.pods.get(name))
    }

    /// Lets a node have a certificate for an identity.
    ///
    /// # Errors
    /// Why it gets none.
    pub(crate) fn authorize_certificate(
        &self,
        identity: &SpiffeId,
        node: &str,
    ) -> Result<(), CertificateDenied> {
        let key = (Arc::from(node), identity.clone());
        if !self.published.identities.contains_key(&key) {
            return Err(CertificateDenied::NoPod);
        }
        let account = NamespacedName::new(identity.namespace(), identity.service_account());
        let exists = self.objects.service_accounts.get(&account).is_some();
        match exists || !self.lists_service_accounts {
            true => Ok(()),
            false => Err(CertificateDenied::NoServiceAccount),
        }
    }

    /// What had to be left out.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        let policies = self.published.policy_conflicts.values();
        let routes = self.published.route_conflicts.values().flatten();
        let left_out = self
            .published
            .left_out
            .values()
            .chain(policies)
            .chain(routes);
        left_out.chain(self.objects.duplicates())
    }

    /// What follows from everything that was taken in since the last call, in an order
    /// in which no resource comes before what it refers to.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let (mut changes, mut gone) = (Vec::new(), Vec::new());
        for pod in std::mem::take(&mut self.dirty_pods) {
            self.update_pod(&pod, &mut changes, &mut gone);
        }
        let services = std::mem::take(&mut self.dirty_services);
        for service in &services {
            self.update_service(service, &mut changes, &mut gone);
        }
        for service in &services {
            self.update_endpoints(service, &mut changes, &mut gone);
        }
        self.update_externals(&mut changes, &mut gone);
        self.update_policies(&mut changes, &mut gone);
        for route in std::mem::take(&mut self.dirty_routes) {
            self.update_route(&route, &mut changes, &mut gone);
        }
        // A UID may have passed to another pod.
        let still_there = |change: &Change| match change {
            Change::WorkloadRemoved(uid) => self.published.pods.contains_key(uid),
            _ => false,
        };
        gone.retain(|change| !still_there(change));
        changes.extend(gone.into_iter().rev());
        changes
    }

    /// Marks as dirty what an object has a part in.
    fn mark_dirty(&mut self, key: &ObjectKey) {
        let name = &key.name;
        match key.kind {
            Kind::Pod => {
                self.dirty_pods.insert(name.clone());
            }
            Kind::Service => {
                self.dirty_services.insert(name.clone());
                if self.objects.policies_of.of(name).next().is_some() {
                    self.dirty_targets.insert(name.clone());
                }
                self.mark_routes_of_dirty(name);
            }
            Kind::Route(kind) => {
                let name = name.clone();
                self.mark_route_dirty(RouteKey { kind, name });
            }
            Kind::TrafficPolicy => self.mark_policy_dirty(name),
            Kind::EndpointSlice => {
                let service = self.objects.slices.get(name).map(|slice| &slice.service);
                self.dirty_services.extend(service.cloned());
            }
            Kind::Namespace => {
                let pods = self.objects.pods.in_namespace(&name.name);
                self.dirty_pods.extend(pods.map(|(name, _)| name.clone()));
            }
            Kind::Node => {
                let pods = self.objects.pods.iter();
                let pods = pods.filter(|(_, pod)| *pod.node == *name.name);
                self.dirty_pods.extend(pods.map(|(name, _)| name.clone()));
            }
            // Asked for when a certificate is.
            Kind::ServiceAccount => {}
            Kind::ExternalService => {
                self.dirty_externals.insert(name.clone());
            }
            Kind::MeshConfig => {
                let pods = self.objects.pods.iter();
                self.dirty_pods.extend(pods.map(|(name, _)| name.clone()));
            }
        }
    }

    fn claim(&mut self, key: &ObjectKey) {
        let Some(pod) = self.claiming_pod(key) else {
            return;
        };
        let claimant = Claimant::of(pod);
        for claim in claims_of(pod) {
            let claimants = self.claims.entry(claim).or_default();
            let others = claimants.iter().map(|other| other.pod.clone());
            self.dirty_pods.extend(others);
            claimants.insert(claimant.clone());
        }
    }

    fn unclaim(&mut self, key: &ObjectKey) {
        let Some(pod) = self.claiming_pod(key) else {
            return;
        };
        let claimant = Claimant::of(pod);
        for claim in claims_of(pod) {
            if let Some(claimants) = self.claims.get_mut(&claim) {
                claimants.remove(&claimant);
                let others = claimants.iter().map(|other| other.pod.clone());
                self.dirty_pods.extend(others);
                if claimants.is_empty() {
                    self.claims.remove(&claim);
                }
            }
        }
    }

    fn claiming_pod(&self, key: &ObjectKey) -> Option<&PodObject> {
        let pod = match key.kind {
            Kind::Pod => self.objects.pods.get(&key.name),
            _ => None,
        };
        pod.filter(|pod| is_workload(pod))
    }

    /// The workload that a pod is now, or why it is none.
    fn compute_pod(&self, name: &NamespacedName) -> Option<Result<Workload, Conflict>> {
        let (origin, pod) = self.objects.pods.entry(name)?;
        if !is_workload(pod) {
            return None;
        }
        for claim in claims_of(pod) {
            let first = self.claims.get(&claim).and_then(|pods| pods.first());
            if let Some(first) = first.filter(|first| first.pod != *name) {
                return Some(Err(Conflict::taken(name, origin, &claim, &first.pod)));
            }
        }
        let workload = compute::workload(pod, &self.objects, &self.captured);
        Some(workload.map_err(|error| Conflict::Identity {
            pod: name.clone(),
            origin: origin.clone(),
            error,
        }))
    }

    fn update_pod(
        &mut self,
        name: &NamespacedName,
        changes: &mut Vec<Change>,
        gone: &mut Vec<Change>,
    ) {
        let new = match self.compute_pod(name) {
            Some(Ok(workload)) => {
                self.published.left_out.remove(name);
                Some(workload)
            }
            Some(Err(conflict)) => {
                self.published.left_out.insert(name.clone(), conflict);
                None
            }
            None => {
                self.published.left_out.remove(name);
                None
            }
        };
        // By selector, endpoints follow every property of a pod; slices name pods only.
        let selecting = self.objects.services.in_namespace(&name.namespace);
        let selecting = selecting.filter(|(name, service)| {
            !service.selector.is_empty() && self.objects.slices_of.of(name).next().is_none()
        });
        self.dirty_services
            .extend(selecting.map(|(name, _)| name.clone()));
        let old = self.published.workloads.remove(name);
        if old.as_ref().map(|old| &old.uid) != new.as_ref().map(|new| &new.uid) {
            let naming = self.objects.services_of.of(name).cloned();
            self.dirty_services.extend(naming);
            if let Some(old) = &old {
                if self.published.pods.get(&old.uid) == Some(name) {
                    self.published.pods.remove(&old.uid);
                }
                gone.push(Change::WorkloadRemoved(old.uid.clone()));
            }
        }
        if let Some(old) = &old {
            self.published.forget_identity(old);
        }
        if let Some(new) = new {
            self.published.remember_identity(&new);
            self.published.pods.insert(new.uid.clone(), name.clone());
            if old.as_ref() != Some(&new) {
                changes.push(Change::Workload(new.clone()));
            }
            self.published.workloads.insert(name.clone(), new);
        }
    }

    fn update_service(
        &mut self,
        name: &NamespacedName,
        changes: &mut Vec<Change>,
        gone: &mut Vec<Change>,
    ) {
        match self.objects.services.get(name) {
            Some(object) => {
                if self.published.services.get(name) != Some(&object.service) {
                    changes.push(Change::Service(object.service.clone()));
                    let published = &mut self.published.services;
                    published.insert(name.clone(), object.service.clone());
                }
            }
            None => {
                if self.published.services.remove(name).is_some() {
                    gone.push(Change::ServiceRemoved(name.clone()));
                }
            }
        }
    }

    fn update_endpoints(
        &mut self,
        name: &NamespacedName,
        changes: &mut Vec<Change>,
        gone: &mut Vec<Change>,
    ) {
        let listed = |pod: &PodObject| self.published.pods.get(&pod.uid) == Some(&pod.key);
        let new = compute::endpoints(name, &self.objects, listed);
        let old = self.published.endpoints.remove(name).unwrap_or_default();
        for (address, endpoint) in &new {
            if old.get(address) != Some(endpoint) {
                changes.push(Change::Endpoint(endpoint.clone()));
            }
        }
        for address in old.keys().filter(|address| !new.contains_key(*address)) {
            gone.push(Change::EndpointRemoved(EndpointKey {
                service: name.clone(),
                address: *address,
            }));
        }
        if !new.is_empty() {
            self.published.endpoints.insert(name.clone(), new);
        }
    }
}

impl Published {
    fn remember_identity(&mut self, workload: &Workload) {
        if workload.enrolment.is_enrolled() {
            let key = (Arc::clone(&workload.node), workload.identity.clone());
            *self.identities.entry(key).or_default() += 1;
        }
    }

    fn forget_identity(&mut self, workload: &Workload) {
        if !workload.enrolment.is_enrolled() {
            return;
        }
        let key = (Arc::clone(&workload.node), workload.identity.clone());
        if let Some(count) = self.identities.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.identities.remove(&key);
            }
        }
    }
}

fn claims_of(pod: &PodObject) -> Vec<Claim> {
    let addresses = pod.addresses.iter().copied().map(Claim::Address);
    addresses.chain([Claim::Uid(pod.uid.clone())]).collect()
}

/// Pods of the host network share their node's address, and are never captured.
fn is_workload(pod: &PodObject) -> bool {
    !pod.ended && !pod.host_network
}

#[cfg(test)]
mod tests;
