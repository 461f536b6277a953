//! Objects on their way into the cluster, before they are known: what the MeshConfig's floor
//! refuses, and which pods are to be in the mesh.

use k8s_openapi::api::core::v1::PodSpec;
use kube::api::DynamicObject;

use super::http_rules;
use super::objects::Objects;
use super::settings::{Asked, Settings, floor};
use crate::kinds::{
    AuthorizationPolicyObject, CAPTURED_CONDITION, FieldError, Kind, KindObject, NamespaceObject,
    Object, PodObject, PodWishes, read_for_admission,
};

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

/// The rules of an AuthorizationPolicy on ports that carry no HTTP.
pub(super) fn refused_http_rules(
    objects: &Objects,
    kind: Kind,
    object: &DynamicObject,
) -> Vec<FieldError> {
    if kind != AuthorizationPolicyObject::KIND {
        return Vec::new();
    }
    let Some(Object::AuthorizationPolicy(policy)) = read_for_admission(kind, object) else {
        return Vec::new();
    };
    http_rules::problem(&policy, objects).into_iter().collect()
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
    let spec = pod.data.get("spec").cloned().unwrap_or_default();
    let Ok(spec) = serde_json::from_value::<PodSpec>(spec) else {
        return false;
    };
    let mut gates = spec.readiness_gates.iter().flatten();
    let has_gate = gates.any(|gate| gate.condition_type == CAPTURED_CONDITION);
    let is_nobody = PodObject::is_mirror(&pod.metadata) || spec.service_account_name.is_none();
    let is_outside = spec.host_network == Some(true) || is_nobody;
    let is_in = || {
        let (wishes, _) = PodWishes::read(pod.metadata.annotations.as_ref());
        let follows_namespace = wishes.mesh.is_none() && !wishes.is_mesh_unreadable;
        (is_namespace_in && follows_namespace) || settings(objects, namespace, pod).is_in
    };
    !has_gate && !is_outside && is_in()
}

fn settings(objects: &Objects, namespace: &str, pod: &DynamicObject) -> Settings {
    let (wishes, _) = PodWishes::read(pod.metadata.annotations.as_ref());
    Settings::new(Asked {
        pod: &wishes,
        namespace_name: namespace,
        namespace: objects.namespace(namespace),
        config: objects.mesh_config(),
        is_captured: false,
    })
}
