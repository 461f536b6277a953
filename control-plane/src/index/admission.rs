//! Objects on their way into the cluster, before they are known: what the MeshConfig's floor
//! refuses, and which pods are to be in the mesh.

use k8s_openapi::api::core::v1::PodSpec;
use kube::api::DynamicObject;
use weft_model::egress::EgressMode;
use weft_model::workload::CaptureExclusions;

use super::http_rules;
use super::objects::Objects;
use super::placement::{Placement, may_meet_old_kubelet, placement};
use super::settings::{Asked, Settings, floor};
use crate::kinds::{
    AuthorizationPolicyObject, CAPTURED_CONDITION, FieldError, Kind, KindObject, NamespaceObject,
    Object, PodObject, PodSidecar, PodWishes, ProxyMode, RequestAuthenticationObject,
    SidecarWishes, containers_of_proxy_user, read_for_admission,
};

/// Seconds that a pod may take to end which says nothing of it.
const GRACE_PERIOD: i64 = 30;

/// The wishes of an object that would have no effect.
pub(super) fn refused_by_floor(
    objects: &Objects,
    kind: Kind,
    namespace: &str,
    object: &DynamicObject,
) -> Vec<FieldError> {
    if kind == PodObject::KIND {
        return settings(objects, namespace, object).refused;
    }
    if kind != NamespaceObject::KIND {
        return Vec::new();
    }
    let Some(Object::Namespace(namespace)) = read_for_admission(kind, object) else {
        return Vec::new();
    };
    let floor = floor(&namespace.name, Some(&namespace), objects.mesh_config());
    floor.refused_of_namespace(&namespace)
}

/// The rules of an AuthorizationPolicy, and the ports of a RequestAuthentication, that carry no HTTP.
pub(super) fn refused_http_rules(
    objects: &Objects,
    kind: Kind,
    object: &DynamicObject,
) -> Vec<FieldError> {
    let kinds = [
        AuthorizationPolicyObject::KIND,
        RequestAuthenticationObject::KIND,
    ];
    let object = kinds
        .contains(&kind)
        .then(|| read_for_admission(kind, object));
    let object = object.flatten();
    let policy = object.as_ref().and_then(Object::authorization_policy);
    let problem = policy.and_then(|policy| http_rules::problem(policy, objects));
    problem.into_iter().collect()
}

/// The pods of a namespace are in the mesh unless they say otherwise.
pub(super) fn is_enrolled(objects: &Objects, namespace: &str) -> bool {
    let known = objects.namespace(namespace);
    let opts_in = known.is_some_and(|namespace| namespace.mesh == Some(true));
    opts_in || floor(namespace, known, objects.mesh_config()).is_enrolled
}

/// A new pod is to be in the mesh and has no readiness gate for it yet. Its namespace may be in
/// by a label that isn't known here yet.
pub(super) fn needs_gate(
    objects: &Objects,
    namespace: &str,
    pod: &DynamicObject,
    is_namespace_in: bool,
) -> bool {
    let Some(spec) = spec(pod) else {
        return false;
    };
    let mut gates = spec.readiness_gates.iter().flatten();
    let has_gate = gates.any(|gate| gate.condition_type == CAPTURED_CONDITION);
    !has_gate && settings_in_mesh(objects, namespace, pod, &spec, is_namespace_in).is_some()
}

/// A new pod that is to be in the mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdmittedPod {
    /// The proxy that it or its namespace asks for.
    pub(crate) mode: Option<ProxyMode>,
    /// The proxy that it gets where nobody asks for one.
    pub(crate) placement: Placement,
    /// It may land on a node whose kubelet doesn't know native sidecars.
    pub(crate) may_meet_old_kubelet: bool,
    /// It brings a proxy along already.
    pub(crate) sidecar: PodSidecar,
    /// What it asks of its sidecar.
    pub(crate) wishes: SidecarWishes,
    /// Outbound traffic that is left alone.
    pub(crate) exclusions: CaptureExclusions,
    /// No container of it may connect past the proxy, also none that runs before it.
    pub(crate) is_confined: bool,
    /// The paths of containers that would pass it.
    pub(crate) of_proxy_user: Vec<String>,
    /// Seconds that it may take to end.
    pub(crate) grace_period: i64,
}

/// What holds for a new pod that is to be in the mesh. Its namespace may be in by a label that
/// isn't known here yet.
pub(super) fn admitted_pod(
    objects: &Objects,
    namespace: &str,
    pod: &DynamicObject,
    is_namespace_in: bool,
) -> Option<AdmittedPod> {
    let spec = spec(pod)?;
    let settings = settings_in_mesh(objects, namespace, pod, &spec, is_namespace_in)?;
    let is_confined =
        settings.forbids_opt_out || settings.egress_mode == EgressMode::RegisteredOnly;
    Some(AdmittedPod {
        mode: settings.mode,
        placement: placement(objects, objects.namespace(namespace), &spec),
        may_meet_old_kubelet: may_meet_old_kubelet(objects, &spec),
        sidecar: PodSidecar::of(pod.metadata.name.as_deref(), &spec),
        wishes: settings.sidecar,
        exclusions: settings.exclusions,
        is_confined,
        of_proxy_user: containers_of_proxy_user(&spec),
        grace_period: spec
            .termination_grace_period_seconds
            .unwrap_or(GRACE_PERIOD),
    })
}

/// None when it can't be read: the API server refuses it, then.
fn spec(pod: &DynamicObject) -> Option<PodSpec> {
    let spec = pod.data.get("spec").cloned().unwrap_or_default();
    serde_json::from_value(spec).ok()
}

/// What holds for a new pod, where that is to be in the mesh and may be.
fn settings_in_mesh(
    objects: &Objects,
    namespace: &str,
    pod: &DynamicObject,
    spec: &PodSpec,
    is_namespace_in: bool,
) -> Option<Settings> {
    let account = spec.service_account_name.as_deref().unwrap_or_default();
    let is_nobody = PodObject::is_mirror(&pod.metadata) || account.is_empty();
    if spec.host_network == Some(true) || is_nobody {
        return None;
    }
    let (wishes, _) = PodWishes::read(pod.metadata.annotations.as_ref());
    let follows_namespace = wishes.mesh.is_none() && !wishes.is_mesh_unreadable;
    let settings = settings(objects, namespace, pod);
    (settings.is_in || is_namespace_in && follows_namespace).then_some(settings)
}

fn settings(objects: &Objects, namespace: &str, pod: &DynamicObject) -> Settings {
    let (wishes, _) = PodWishes::read(pod.metadata.annotations.as_ref());
    let name = pod.metadata.name.as_deref();
    let sidecar = spec(pod).map(|spec| PodSidecar::of(name, &spec));
    let sidecar = sidecar.unwrap_or_default();
    Settings::new(Asked::of(&wishes, namespace, objects).with_sidecar(&sidecar))
}
