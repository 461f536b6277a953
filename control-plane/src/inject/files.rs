//! Sidecars in manifests, without an API server: what the webhook would do to the pods of all that
//! makes pods.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::injection::{injection, readiness_gate};
use super::options::InjectionOptions;
use crate::cluster::Cluster;
use crate::kinds::{
    self, FieldError, Form, Kind, KindObject, MeshConfigObject, NamespaceObject, NodeObject,
    PodObject, RuntimeClassObject,
};
use crate::source::{Event, Origin};
use crate::yaml;

/// A reason that a file can't be injected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FileError {
    /// It isn't YAML or JSON.
    #[error("the file is neither YAML nor JSON: {0}")]
    Syntax(String),
    /// One of its objects asks for what can't be.
    #[error("document {document} ({object}): {error}")]
    Object {
        /// Which document of the file, from 1.
        document: usize,
        /// Kind and name.
        object: String,
        /// What is wrong.
        error: FieldError,
    },
    /// The result can't be written.
    #[error("the result can't be written as YAML: {0}")]
    Write(String),
}

/// The kinds that say what holds for pods.
const SETTINGS: [Kind; 4] = [
    NamespaceObject::KIND,
    MeshConfigObject::KIND,
    NodeObject::KIND,
    RuntimeClassObject::KIND,
];

/// Injects sidecars into all that makes pods in a file. Its Namespaces, MeshConfig, Nodes and
/// RuntimeClasses hold for them; a namespace that isn't in it counts as in the mesh.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn inject_text(
    text: &str,
    default_namespace: &str,
    options: &InjectionOptions,
) -> Result<String, FileError> {
    let documents = serde_saphyr::from_multiple_with_options(text, yaml::options());
    let mut documents: Vec<Value> =
        documents.map_err(|error| FileError::Syntax(error.to_string()))?;
    let file = File {
        cluster: Cluster::of_directory().with_sidecars(options.sidecars()),
        default_namespace,
        options,
    };
    for (index, document) in documents.iter().enumerate() {
        for object in objects(document) {
            let known = file.learn(object);
            known.map_err(|error| blame(index + 1, object, error))?;
        }
    }
    for (index, document) in documents.iter_mut().enumerate() {
        for object in objects_mut(document) {
            let injected = file.inject(object);
            injected.map_err(|error| blame(index + 1, object, error))?;
        }
    }
    let documents = documents.iter().filter(|document| !document.is_null());
    let documents = documents.map(|document| {
        let text = serde_saphyr::to_string(document);
        text.map(|text| format!("---\n{text}"))
    });
    let text: Result<String, _> = documents.collect();
    text.map_err(|error| FileError::Write(error.to_string()))
}

/// A file, and what it says of the cluster.
struct File<'a> {
    cluster: Cluster,
    default_namespace: &'a str,
    options: &'a InjectionOptions,
}

impl File<'_> {
    /// Takes in an object that says what holds for pods.
    fn learn(&self, object: &Value) -> Result<(), FieldError> {
        let version = text(object, "/apiVersion");
        let (group, _) = version.split_once('/').unwrap_or(("", version));
        let kind = kinds::find(group, text(object, "/kind"));
        let Some(kind) = kind.filter(|kind| SETTINGS.contains(kind)) else {
            return Ok(());
        };
        if let Some(object) = kinds::read_manifest(kind, object.clone())? {
            let event = Event::Applied(Origin::new(), object);
            self.cluster.apply_events(vec![event]);
        }
        Ok(())
    }

    /// Injects a sidecar into the pods that an object makes.
    fn inject(&self, object: &mut Value) -> Result<(), FieldError> {
        let Some(path) = pod_path(text(object, "/kind")) else {
            return Ok(());
        };
        let namespace = match text(object, "/metadata/namespace") {
            "" => self.default_namespace.to_owned(),
            namespace => namespace.to_owned(),
        };
        let Some(pod) = object.pointer_mut(path).filter(|pod| pod.is_object()) else {
            return Ok(());
        };
        let live = as_admitted(pod)?;
        self.check(&namespace, &live)?;
        let is_namespace_in = !self.cluster.knows_namespace(&namespace);
        let admitted = self
            .cluster
            .admitted_pod(&namespace, &live, is_namespace_in);
        let Some(admitted) = admitted else {
            return Ok(());
        };
        let mut additions = injection(&namespace, pod, &admitted, self.options)?;
        if self.cluster.needs_gate(&namespace, &live, is_namespace_in) {
            additions.push(readiness_gate(pod));
        }
        for addition in additions {
            addition.apply(pod);
        }
        Ok(())
    }

    /// What the validating webhook would refuse.
    fn check(&self, namespace: &str, pod: &DynamicObject) -> Result<(), FieldError> {
        let kind = PodObject::KIND;
        let is_in = !self.cluster.knows_namespace(namespace) || self.cluster.is_enrolled(namespace);
        let mut problems = kinds::problems(kind, pod, Form::Admission);
        problems.extend(kinds::foreign_probes(kind, pod, is_in));
        problems.extend(self.cluster.refused_by_floor(kind, namespace, pod));
        problems.into_iter().next().map_or(Ok(()), Err)
    }
}

/// A pod, or the template of one, as the API server shows it to a webhook.
fn as_admitted(pod: &Value) -> Result<DynamicObject, FieldError> {
    let part = |name: &str| {
        let part = pod.get(name).filter(|part| part.is_object());
        part.cloned().unwrap_or_else(|| json!({}))
    };
    let mut live = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": part("metadata"), "spec": part("spec"),
    });
    // It gives every pod a ServiceAccount before it asks.
    if text(&live, "/spec/serviceAccountName").is_empty()
        && let Some(spec) = live.get_mut("spec").and_then(Value::as_object_mut)
    {
        let old_name = spec.get("serviceAccount").filter(|name| name.is_string());
        let account = old_name.cloned().unwrap_or_else(|| json!("default"));
        spec.insert("serviceAccountName".to_owned(), account);
    }
    serde_json::from_value(live).map_err(|error| FieldError::new("metadata", error))
}

/// Where a kind has its pod.
fn pod_path(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "",
        "PodTemplate" => "/template",
        "Deployment"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet"
        | "DaemonSet"
        | "Job" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

fn is_list(document: &Value) -> bool {
    text(document, "/kind").ends_with("List") && document.get("items").is_some_and(Value::is_array)
}

/// The objects of a document, which may be a list of them.
fn objects(document: &Value) -> Vec<&Value> {
    match is_list(document) {
        true => {
            let items = document.get("items").and_then(Value::as_array);
            items.into_iter().flatten().flat_map(objects).collect()
        }
        false => vec![document],
    }
}

fn objects_mut(document: &mut Value) -> Vec<&mut Value> {
    match is_list(document) {
        true => {
            let items = document.get_mut("items").and_then(Value::as_array_mut);
            items.into_iter().flatten().flat_map(objects_mut).collect()
        }
        false => vec![document],
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    let text = object.pointer(path).and_then(Value::as_str);
    text.unwrap_or_default()
}

fn blame(document: usize, object: &Value, error: FieldError) -> FileError {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    FileError::Object {
        document,
        object: format!("{kind} {name}"),
        error,
    }
}

#[cfg(test)]
mod tests;
