//! One pod as a workload: what it asks for, and what holds for it.

use std::sync::Arc;

use weft_model::identity::InvalidIdentity;
use weft_model::node_access::{NodeAccess, NodeAccessMode};
use weft_model::workload::{Enrolment, Workload};
use weft_model::{NamespacedName, SpiffeId, TrustDomain};

use super::authorization_membership;
use super::conflict::Conflict;
use super::objects::Objects;
use super::policy_membership::membership;
use super::settings::{Asked, Settings};
use crate::kinds::{FieldError, KindObject, NodeObject, ObjectKey, PodObject};
use crate::source::Origin;

/// Trust domain of a mesh that names none, as everywhere in this field.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The workload that a pod is, but for its addresses, with what it asks for without effect. Its
/// node may claim to have captured it.
///
/// # Errors
/// When namespace or service account can't be part of an identity.
pub(super) fn workload(
    pod: &PodObject,
    origin: &Origin,
    objects: &Objects,
    is_claimed: bool,
) -> Result<(Workload, Vec<Conflict>), InvalidIdentity> {
    let config = objects.mesh_config();
    let trust_domain = match config.and_then(|config| config.trust_domain.clone()) {
        Some(trust_domain) => trust_domain,
        None => DEFAULT_TRUST_DOMAIN.parse::<TrustDomain>()?,
    };
    let node = NamespacedName::new("", &pod.node);
    let node = objects.tables.get::<NodeObject>(&node);
    let is_captured = pod.captured || is_claimed;
    let settings = Settings::new(Asked {
        is_captured,
        ..Asked::of(&pod.wishes, &pod.key.namespace, objects).with_sidecar(&pod.sidecar)
    });
    let is_in = settings.is_in && !pod.host_network;
    let enrolment = match is_in && !pod.lacks_identity() {
        false => Enrolment::Outside,
        true if is_captured => Enrolment::Captured,
        true => Enrolment::Pending,
    };
    let path_normalization = config.and_then(|config| config.path_normalization);
    // One that is outside is nobody: no certificate is made for the name.
    let account = pod.service_account.as_deref().unwrap_or("default");
    let workload = Workload {
        uid: pod.uid.clone(),
        name: pod.key.name.clone(),
        identity: SpiffeId::new(trust_domain, &pod.key.namespace, account)?,
        addresses: pod.addresses.clone(),
        node: pod.node.as_str().into(),
        locality: node
            .map(|object| object.node.locality.clone())
            .unwrap_or_default(),
        enrolment,
        mtls_mode: settings.mtls_mode,
        port_modes: settings.port_modes,
        is_sidecar: settings.is_sidecar,
        node_access: node_access(pod, settings.node_access, enrolment),
        egress_mode: settings.egress_mode,
        path_normalization: path_normalization.unwrap_or_default(),
        idle_limits: settings.idle_limits,
        access_log: Arc::new(settings.access_log),
        exclusions: settings.exclusions,
        network_namespace: pod.network_namespace.as_str().into(),
        labels: pod.names.clone(),
        network_policies: Arc::new(membership(pod, objects, enrolment.is_enrolled())),
        authorization: Arc::new(authorization_membership::membership(
            pod,
            objects,
            enrolment.is_enrolled(),
            settings.default_authorization,
        )),
    };
    let refused = match is_in && pod.lacks_identity() {
        true => vec![Conflict::NoIdentity {
            pod: pod.key.clone(),
            uid: pod.uid.clone(),
            origin: origin.clone(),
        }],
        false => refused(pod, origin, settings.refused, enrolment),
    };
    Ok((workload, refused))
}

/// What a pod asks for without effect, and its probes that ask somebody else, where it is in the
/// mesh.
fn refused(
    pod: &PodObject,
    origin: &Origin,
    problems: Vec<FieldError>,
    enrolment: Enrolment,
) -> Vec<Conflict> {
    let foreign = pod.foreign_probes.iter();
    let foreign = foreign.filter(|_| enrolment.is_enrolled());
    let foreign = foreign.map(|problem| Conflict::ForeignProbe {
        pod: pod.key.clone(),
        uid: pod.uid.clone(),
        origin: origin.clone(),
        problem: problem.clone(),
    });
    let refused = problems.into_iter().map(|problem| Conflict::Floor {
        object: ObjectKey {
            kind: PodObject::KIND,
            name: pod.key.clone(),
        },
        uid: Some(pod.uid.to_string()),
        origin: origin.clone(),
        problem,
    });
    refused.chain(foreign).collect()
}

/// The plaintext that a strict pod takes from its own node. Only its agent asks, and of pods that
/// are enrolled: the others' probes are nobody's business.
fn node_access(pod: &PodObject, mode: NodeAccessMode, enrolment: Enrolment) -> NodeAccess {
    match mode {
        NodeAccessMode::All => NodeAccess::All,
        NodeAccessMode::Probes if enrolment.is_enrolled() => {
            NodeAccess::Probes(pod.probes.as_slice().into())
        }
        NodeAccessMode::Probes => NodeAccess::default(),
    }
}
