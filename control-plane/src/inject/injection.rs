//! What is added to a pod so that it has a sidecar. Pure: the same pod, and the same that holds for
//! it, is the same result, whoever asks.

use serde_json::{Value, json};

use super::addition::Addition;
use super::options::InjectionOptions;
use super::{affinity, containers};
use crate::index::{AdmittedPod, Placement};
use crate::kinds::{self, CREDENTIALS_VOLUME, FieldError, INIT_CONTAINER, PROXY_USER, ProxyMode};

/// The namespace of Kubernetes itself: a mesh has to be able to start after it.
const SYSTEM_NAMESPACE: &str = "kube-system";
/// The annotation by which kubectl chooses a container.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What becomes of a pod that is to be in the mesh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// It stays as it is.
    Unchanged,
    /// It lands on no node that can't capture.
    CapableNodes,
    /// It gets a sidecar.
    Sidecar,
}

/// The additions to a pod that is to be in the mesh; none when its proxy is an agent wherever it may
/// land, or it has a sidecar.
///
/// # Errors
/// When containers of its own would pass the sidecar, or something of it is called as the sidecar's is.
pub(crate) fn injection(
    namespace: &str,
    pod: &Value,
    admitted: &AdmittedPod,
    options: &InjectionOptions,
) -> Result<Vec<Addition>, FieldError> {
    match outcome(namespace, pod, admitted, options) {
        Outcome::Unchanged => Ok(Vec::new()),
        Outcome::CapableNodes => Ok(affinity::capable_nodes(pod)),
        Outcome::Sidecar => sidecar(pod, admitted, options),
    }
}

fn sidecar(
    pod: &Value,
    admitted: &AdmittedPod,
    options: &InjectionOptions,
) -> Result<Vec<Addition>, FieldError> {
    if let Some(path) = admitted.of_proxy_user.first() {
        let message = format!(
            "runs as user {PROXY_USER}, which is the sidecar's: its connections would pass the \
             sidecar; choose another user"
        );
        let field = format!("{path}.securityContext.runAsUser");
        return Err(FieldError::new(field, message));
    }
    if let Some(taken) = taken_name(pod) {
        return Err(taken);
    }
    let init = containers::init(admitted, options);
    let proxy = containers::proxy(admitted, options);
    let mut additions = Vec::new();
    let volume = containers::volume(options);
    additions.push(Addition::item(pod, "/spec/volumes", None, volume));
    match options.shape.is_native(admitted) {
        // First, in this order: the second finds the list that the first has made.
        true => {
            additions.push(Addition::item(pod, "/spec/initContainers", Some(0), init));
            additions.push(match has_init_containers(pod) {
                true => Addition::new("/spec/initContainers/1", proxy),
                false => Addition::new("/spec/initContainers/-", proxy),
            });
        }
        false => {
            // The proxy runs when all init containers have ended: redirected to it, they would
            // reach nobody. They do so where nothing may pass it.
            let at = admitted.is_confined.then_some(0);
            additions.push(Addition::item(pod, "/spec/initContainers", at, init));
            additions.push(Addition::item(pod, "/spec/containers", Some(0), proxy));
            additions.extend(default_container(pod));
        }
    }
    Ok(additions)
}

/// The readiness gate of a pod that has none of ours.
pub(crate) fn readiness_gate(pod: &Value) -> Addition {
    Addition::item(pod, "/spec/readinessGates", None, kinds::readiness_gate())
}

fn outcome(
    namespace: &str,
    pod: &Value,
    admitted: &AdmittedPod,
    options: &InjectionOptions,
) -> Outcome {
    let system = pod.pointer("/spec/os/name").and_then(Value::as_str);
    let is_excluded = namespace == SYSTEM_NAMESPACE
        || namespace == options.mesh_namespace
        || system.is_some_and(|system| system != "linux")
        || admitted.sidecar.is_there();
    if is_excluded {
        return Outcome::Unchanged;
    }
    match (admitted.mode.unwrap_or(options.mode), admitted.placement) {
        (ProxyMode::Sidecar, _) | (ProxyMode::Auto, Placement::NeedsSidecar) => Outcome::Sidecar,
        (ProxyMode::Auto, Placement::CapableNodes) => Outcome::CapableNodes,
        (ProxyMode::Auto, Placement::Anywhere) | (ProxyMode::Node, _) => Outcome::Unchanged,
    }
}

/// Something of a pod without sidecar that is called as a part of a sidecar. The API server would call
/// it a duplicate, of which its author has written one.
fn taken_name(pod: &Value) -> Option<FieldError> {
    let names = [
        ("volumes", CREDENTIALS_VOLUME),
        ("initContainers", INIT_CONTAINER),
        ("containers", INIT_CONTAINER),
    ];
    names.into_iter().find_map(|(list, name)| {
        let items = pod.pointer(&format!("/spec/{list}"))?.as_array()?;
        let index = items.iter().position(|item| item["name"] == name)?;
        let message = format!(
            "`{name}` is a part of the sidecar that this pod gets: choose another name, or leave it \
             out where it is what is left of a sidecar"
        );
        Some(FieldError::new(format!("spec.{list}[{index}].name"), message))
    })
}

fn has_init_containers(pod: &Value) -> bool {
    let list = pod.pointer("/spec/initContainers");
    let list = list.and_then(Value::as_array);
    list.is_some_and(|list| !list.is_empty())
}

/// The application's container stays the one that kubectl means, which is the first otherwise.
fn default_container(pod: &Value) -> Option<Addition> {
    let name = pod.pointer("/spec/containers/0/name")?.as_str()?;
    let path = format!(
        "/metadata/annotations/{}",
        DEFAULT_CONTAINER.replace('/', "~1")
    );
    if pod.pointer(&path).is_some() {
        return None;
    }
    let annotations = json!({ DEFAULT_CONTAINER: name });
    let is_object = |path: &str| pod.pointer(path).is_some_and(Value::is_object);
    Some(if is_object("/metadata/annotations") {
        Addition::new(path, json!(name))
    } else if is_object("/metadata") {
        Addition::new("/metadata/annotations", annotations)
    } else {
        Addition::new("/metadata", json!({ "annotations": annotations }))
    })
}

#[cfg(test)]
mod tests;
