//! Pods as workloads: who they are, and whether they are in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::memberships::Memberships;
use weft_model::mesh::Change;
use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{NamespacedName, SpiffeId};

use super::authorization_membership::{PolicyCounts, is_of_service, selects};
use super::changes::Changes;
use super::claims::Claims;
use super::conflict::Conflict;
use super::identities::{CertificateDenied, Identities, account_exists};
use super::objects::{Names, Objects};
use super::peer_selectors::Selectors;
use super::policy_membership::is_peer;
use super::services::Services;
use super::workload::workload;
use crate::kinds::{AuthorizationPolicyObject, KindObject, NetworkPolicyObject, PodObject};

/// Captured pods, each with all nodes that claim it; its own node's claim counts.
pub(crate) type CapturedPods = HashMap<WorkloadUid, BTreeSet<Arc<str>>>;

/// The workloads that agents have, and the pods that may be others by now.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    dirty: Names,
    captured: CapturedPods,
    claims: Claims,
    /// By pod.
    published: HashMap<NamespacedName, Workload>,
    /// The pod that has a UID.
    pods: HashMap<WorkloadUid, NamespacedName>,
    identities: Identities,
    memberships: Memberships,
    /// Workloads that AuthorizationPolicies select.
    authorized: PolicyCounts,
    /// Pods that had to be left out.
    left_out: BTreeMap<NamespacedName, Conflict>,
    /// What pods ask for, or list, without effect.
    refused: BTreeMap<NamespacedName, Vec<Conflict>>,
}

impl Workloads {
    /// A pod is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, pod: &NamespacedName) {
        self.dirty.insert(pod.clone());
    }

    /// Something that holds for several pods is about to be or was just changed.
    pub(super) fn mark_pods_dirty(
        &mut self,
        objects: &Objects,
        of_them: impl Fn(&PodObject) -> bool,
    ) {
        let pods = objects.tables.all::<PodObject>();
        let pods = pods.filter(|(_, pod)| of_them(pod));
        self.dirty.extend(pods.map(|(name, _)| name.clone()));
    }

    /// The same for the pods of a namespace.
    pub(super) fn mark_namespace_dirty(&mut self, objects: &Objects, namespace: &str) {
        let pods = objects.tables.in_namespace::<PodObject>(namespace);
        self.dirty.extend(pods.map(|(name, _)| name.clone()));
    }

    /// A NetworkPolicy is about to be or was just changed: it selects pods of its namespace.
    pub(super) fn mark_network_policy_dirty(
        &mut self,
        policy: &NetworkPolicyObject,
        objects: &Objects,
    ) {
        let own = &policy.policy.key.namespace;
        let pods = objects.tables.in_namespace::<PodObject>(own);
        let pods = pods.filter(|(_, pod)| policy.pods.matches(&pod.labels));
        self.dirty.extend(pods.map(|(name, _)| name.clone()));
    }

    /// An AuthorizationPolicy is about to be or was just changed.
    pub(super) fn mark_authorization_policy_dirty(
        &mut self,
        policy: &AuthorizationPolicyObject,
        objects: &Objects,
    ) {
        let namespace = &policy.key.namespace;
        if *namespace == objects.mesh_namespace {
            return self.mark_pods_dirty(objects, |pod| selects(policy, pod, objects));
        }
        let pods = objects.tables.in_namespace::<PodObject>(namespace);
        let pods = pods.filter(|(_, pod)| selects(policy, pod, objects));
        self.dirty.extend(pods.map(|(name, _)| name.clone()));
    }

    /// A Service whose pods AuthorizationPolicies may select, or a slice of it, is about to be or
    /// was just changed.
    pub(super) fn mark_service_dirty(&mut self, service: &NamespacedName, objects: &Objects) {
        let policies = &objects.references.authorization_policies_of_service;
        if policies.any_to(service) {
            let pods = objects.tables.in_namespace::<PodObject>(&service.namespace);
            let pods = pods.filter(|(_, pod)| is_of_service(pod, service, objects));
            self.dirty.extend(pods.map(|(name, _)| name.clone()));
        }
    }

    /// The number of workloads that each AuthorizationPolicy selects.
    pub(super) fn authorized(&mut self) -> &mut PolicyCounts {
        &mut self.authorized
    }

    /// These selectors of peers have come to count, or do no more.
    pub(super) fn mark_peers_dirty(&mut self, selectors: &Selectors, objects: &Objects) {
        let places = selectors.iter().map(|selector| selector.namespaces.own());
        // `None` when one of them may match pods of any.
        let Some(places) = places.collect::<Option<BTreeSet<_>>>() else {
            return self.mark_pods_dirty(objects, |pod| is_peer(selectors, pod, objects));
        };
        for namespace in places {
            let pods = objects.tables.in_namespace::<PodObject>(namespace);
            let pods = pods.filter(|(_, pod)| is_peer(selectors, pod, objects));
            self.dirty.extend(pods.map(|(name, _)| name.clone()));
        }
    }

    /// A pod counts from now on.
    pub(super) fn claim(&mut self, pod: &PodObject) {
        if pod.is_workload() {
            self.dirty.extend(self.claims.add(pod));
        }
    }

    /// A pod doesn't count any more.
    pub(super) fn unclaim(&mut self, pod: &PodObject) {
        if pod.is_workload() {
            self.dirty.extend(self.claims.remove(pod));
        }
    }

    /// These pods are captured, all others are not, other than those that say so
    /// themselves.
    pub(super) fn set_captured(&mut self, captured: CapturedPods) {
        let changed = captured
            .iter()
            .filter(|(uid, nodes)| self.captured.get(*uid) != Some(*nodes))
            .map(|(uid, _)| uid)
            .chain(
                self.captured
                    .keys()
                    .filter(|uid| !captured.contains_key(*uid)),
            );
        let pods = changed.filter_map(|uid| self.pods.get(uid).cloned());
        self.dirty.extend(pods);
        self.captured = captured;
    }

    /// The workload of that UID, as agents have it.
    pub(super) fn get(&self, uid: &WorkloadUid) -> Option<&Workload> {
        self.published.get(self.pods.get(uid)?)
    }

    /// The pod that has that UID among agents.
    pub(super) fn pod(&self, uid: &WorkloadUid) -> Option<&NamespacedName> {
        self.pods.get(uid)
    }

    /// All pods that agents know.
    pub(super) fn pods(&self) -> impl Iterator<Item = &NamespacedName> {
        self.pods.values()
    }

    /// Pods that had to be left out, and what others ask for without effect.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        let refused = self.refused.values().flatten();
        self.left_out.values().chain(refused)
    }

    /// The reason for which a pod had to be left out.
    pub(super) fn left_out(&self, pod: &NamespacedName) -> Option<&Conflict> {
        self.left_out.get(pod)
    }

    /// The workload that a pod is, as agents have it.
    pub(super) fn of_pod(&self, pod: &NamespacedName) -> Option<&Workload> {
        self.published.get(pod)
    }

    /// Lets a node have a certificate for an identity. With `lists_accounts`, a
    /// ServiceAccount that isn't known doesn't exist.
    ///
    /// # Errors
    /// The reason for which it gets none.
    pub(super) fn authorize_certificate(
        &self,
        objects: &Objects,
        identity: &SpiffeId,
        node: &str,
        lists_accounts: bool,
    ) -> Result<(), CertificateDenied> {
        if !self.identities.serves(node, identity) {
            return Err(CertificateDenied::NoPod);
        }
        account_exists(objects, identity, lists_accounts)
    }

    /// Lets a pod's own sidecar have a certificate for an identity. With `lists_accounts`, a
    /// ServiceAccount that isn't known doesn't exist.
    ///
    /// # Errors
    /// The reason for which it gets none.
    pub(super) fn authorize_pod_certificate(
        &self,
        objects: &Objects,
        identity: &SpiffeId,
        pod: &WorkloadUid,
        lists_accounts: bool,
    ) -> Result<(), CertificateDenied> {
        let workload = self.get(pod).filter(|workload| {
            workload.is_sidecar
                && workload.enrolment.is_enrolled()
                && workload.identity == *identity
        });
        if workload.is_none() {
            return Err(CertificateDenied::NotThisPod);
        }
        account_exists(objects, identity, lists_accounts)
    }

    /// Looks at everything dirty.
    pub(super) fn update(
        &mut self,
        objects: &Objects,
        services: &mut Services,
        changes: &mut Changes,
    ) {
        for pod in std::mem::take(&mut self.dirty) {
            self.left_out.remove(&pod);
            self.refused.remove(&pod);
            let now = match self.evaluate(&pod, objects) {
                None => None,
                Some(Err(conflict)) => {
                    self.left_out.insert(pod.clone(), conflict);
                    None
                }
                Some(Ok((workload, refused))) => {
                    if !refused.is_empty() {
                        self.refused.insert(pod.clone(), refused);
                    }
                    Some(workload)
                }
            };
            services.mark_selecting(&pod, objects);
            let before = self.published.remove(&pod);
            if before.as_ref().map(|before| &before.uid) != now.as_ref().map(|now| &now.uid) {
                services.mark_naming(&pod, objects);
            }
            self.publish(&pod, before.as_ref(), now, changes);
        }
    }

    fn publish(
        &mut self,
        pod: &NamespacedName,
        before: Option<&Workload>,
        mut now: Option<Workload>,
        changes: &mut Changes,
    ) {
        if let Some(now) = &mut now {
            self.memberships.share(now);
        }
        self.authorized.update(before, now.as_ref());
        if let Some(before) = before {
            self.identities.remove(before);
            self.memberships.remove(before);
            if now.as_ref().is_none_or(|now| now.uid != before.uid) {
                if self.pods.get(&before.uid) == Some(pod) {
                    self.pods.remove(&before.uid);
                }
                changes.push_removed(Change::WorkloadRemoved(before.uid.clone()));
            }
        }
        if let Some(now) = now {
            self.identities.add(&now);
            self.pods.insert(now.uid.clone(), pod.clone());
            if before != Some(&now) {
                changes.push_changed(Change::Workload(now.clone()));
            }
            self.published.insert(pod.clone(), now);
        }
    }

    /// The workload that a pod is now with what it asks for without effect, or why it is none.
    fn evaluate(
        &self,
        name: &NamespacedName,
        objects: &Objects,
    ) -> Option<Result<(Workload, Vec<Conflict>), Conflict>> {
        let (origin, pod) = objects.tables.entry::<PodObject>(PodObject::KIND, name)?;
        if !pod.is_workload() {
            return None;
        }
        if let Some(conflict) = self.claims.conflict(pod, origin) {
            return Some(Err(conflict));
        }
        let claims = self.captured.get(&pod.uid);
        let is_claimed = claims.is_some_and(|nodes| nodes.contains(pod.node.as_str()));
        let evaluated = workload(pod, origin, objects, is_claimed);
        let evaluated = evaluated.map(|(workload, mut refused)| {
            let (addresses, taken) = self.claims.addresses(pod, origin);
            refused.extend(taken);
            let workload = Workload {
                addresses,
                ..workload
            };
            (workload, refused)
        });
        Some(evaluated.map_err(|error| Conflict::Identity {
            pod: name.clone(),
            origin: origin.clone(),
            error,
        }))
    }
}
