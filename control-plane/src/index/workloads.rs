//! Pods as workloads: who they are, and whether they are in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::identity::InvalidIdentity;
use weft_model::mesh::Change;
use weft_model::mtls::MtlsMode;
use weft_model::workload::{Enrolment, Workload, WorkloadUid};
use weft_model::{NamespacedName, SpiffeId, TrustDomain};

use super::changes::Changes;
use super::claims::Claims;
use super::conflict::Conflict;
use super::identities::{CertificateDenied, Identities};
use super::objects::{Names, Objects};
use super::services::Services;
use crate::kinds::{KindObject, NamespaceObject, NodeObject, PodObject, ServiceAccountObject};

/// Trust domain of a mesh that names none, as everywhere in this field.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

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
    /// Pods that had to be left out.
    left_out: BTreeMap<NamespacedName, Conflict>,
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

    /// Pods that had to be left out.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.left_out.values()
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
        let account = NamespacedName::new(identity.namespace(), identity.service_account());
        let account = objects.tables.get::<ServiceAccountObject>(&account);
        match account.is_some() || !lists_accounts {
            true => Ok(()),
            false => Err(CertificateDenied::NoServiceAccount),
        }
    }

    /// Looks at everything dirty.
    pub(super) fn update(
        &mut self,
        objects: &Objects,
        services: &mut Services,
        changes: &mut Changes,
    ) {
        for pod in std::mem::take(&mut self.dirty) {
            let now = match self.evaluate(&pod, objects) {
                Some(Err(conflict)) => {
                    self.left_out.insert(pod.clone(), conflict);
                    None
                }
                workload => {
                    self.left_out.remove(&pod);
                    workload.and_then(Result::ok)
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
        now: Option<Workload>,
        changes: &mut Changes,
    ) {
        if let Some(before) = before {
            self.identities.remove(before);
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

    /// The workload that a pod is now, or why it is none.
    fn evaluate(
        &self,
        name: &NamespacedName,
        objects: &Objects,
    ) -> Option<Result<Workload, Conflict>> {
        let (origin, pod) = objects.tables.entry::<PodObject>(PodObject::KIND, name)?;
        if !pod.is_workload() {
            return None;
        }
        if let Some(conflict) = self.claims.conflict(pod, origin) {
            return Some(Err(conflict));
        }
        let workload = workload(pod, objects, &self.captured);
        Some(workload.map_err(|error| Conflict::Identity {
            pod: name.clone(),
            origin: origin.clone(),
            error,
        }))
    }
}

/// The workload that a pod is.
///
/// # Errors
/// When namespace or service account can't be part of an identity.
fn workload(
    pod: &PodObject,
    objects: &Objects,
    captured: &CapturedPods,
) -> Result<Workload, InvalidIdentity> {
    let config = objects.mesh_config();
    let trust_domain = match config.and_then(|config| config.trust_domain.clone()) {
        Some(trust_domain) => trust_domain,
        None => DEFAULT_TRUST_DOMAIN.parse::<TrustDomain>()?,
    };
    let namespace = NamespacedName::new("", &pod.key.namespace);
    let namespace = objects.tables.get::<NamespaceObject>(&namespace);
    let node = objects
        .tables
        .get::<NodeObject>(&NamespacedName::new("", &pod.node));
    let opted_in = pod
        .mesh
        .or_else(|| namespace.and_then(|namespace| namespace.mesh));
    let claims = captured.get(&pod.uid);
    let is_claimed = claims.is_some_and(|nodes| nodes.contains(pod.node.as_str()));
    let is_captured = pod.captured || is_claimed;
    let enrolment = match opted_in.unwrap_or(false) && !pod.host_network {
        false => Enrolment::Outside,
        true if is_captured => Enrolment::Captured,
        true => Enrolment::Pending,
    };
    let mtls_mode = pod
        .mtls_mode
        .or_else(|| namespace.and_then(|namespace| namespace.mtls_mode))
        .or_else(|| config.and_then(|config| config.mtls_mode))
        .unwrap_or(MtlsMode::Permissive);
    let egress_mode = namespace
        .and_then(|namespace| namespace.egress_mode)
        .or_else(|| config.and_then(|config| config.egress_mode))
        .unwrap_or_default();
    let idle_limits = pod
        .idle_limits
        .or(namespace
            .map(|namespace| namespace.idle_limits)
            .unwrap_or_default())
        .or(config.map(|config| config.idle_limits).unwrap_or_default());
    Ok(Workload {
        uid: pod.uid.clone(),
        name: pod.key.name.clone(),
        identity: SpiffeId::new(trust_domain, &pod.key.namespace, &pod.service_account)?,
        addresses: pod.addresses.clone(),
        node: pod.node.as_str().into(),
        locality: node.map(|node| node.locality.clone()).unwrap_or_default(),
        enrolment,
        mtls_mode,
        egress_mode,
        idle_limits,
        exclusions: pod.exclusions.clone(),
        network_namespace: pod.network_namespace.as_str().into(),
        labels: pod.names.clone(),
    })
}
