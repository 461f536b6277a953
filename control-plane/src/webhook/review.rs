//! The decision to admit an object.

use std::sync::Arc;

use kube::core::DynamicObject;
use kube::core::admission::{
    AdmissionRequest, AdmissionResponse, AdmissionReview, ConvertAdmissionReviewError, Operation,
};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::inject::{Addition, InjectionOptions, injection, readiness_gate};
use crate::kinds::{self, Form};

/// What reviews go by.
pub(super) struct Reviewer {
    pub(super) cluster: Arc<Cluster>,
    pub(super) injection: InjectionOptions,
}

/// The review of one path.
pub(super) type Review = fn(&[u8], &Reviewer) -> AdmissionReview<DynamicObject>;

/// The answer to the review of an object that nothing changes any more.
pub(super) fn validate(body: &[u8], reviewer: &Reviewer) -> AdmissionReview<DynamicObject> {
    answer(body, |request| decide(request, &reviewer.cluster))
}

/// The answer to the review of an object that may be changed: pods that are to be in the mesh
/// are not ready before they are captured.
pub(super) fn mutate(body: &[u8], reviewer: &Reviewer) -> AdmissionReview<DynamicObject> {
    answer(body, |request| with_gate(request, reviewer, false))
}

/// The same where the API server has seen by its label that the pod's namespace is in the mesh,
/// of which this process may hear a moment later.
pub(super) fn mutate_in_mesh(body: &[u8], reviewer: &Reviewer) -> AdmissionReview<DynamicObject> {
    answer(body, |request| with_gate(request, reviewer, true))
}

/// The answer to the review of a pod that may get a sidecar.
pub(super) fn inject(body: &[u8], reviewer: &Reviewer) -> AdmissionReview<DynamicObject> {
    answer(body, |request| with_sidecar(request, reviewer, false))
}

/// The same where the API server has seen by its label that the pod's namespace is in the mesh.
pub(super) fn inject_in_mesh(body: &[u8], reviewer: &Reviewer) -> AdmissionReview<DynamicObject> {
    answer(body, |request| with_sidecar(request, reviewer, true))
}

fn answer(
    body: &[u8],
    decide: impl Fn(&AdmissionRequest<DynamicObject>) -> AdmissionResponse,
) -> AdmissionReview<DynamicObject> {
    match parse(body) {
        Ok(request) => decide(&request).into_review(),
        Err(error) => {
            let what = format!("this is no admission.k8s.io/v1 AdmissionReview: {error}");
            AdmissionResponse::invalid(what).into_review()
        }
    }
}

fn parse(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    // What nobody reads of it would pass otherwise, however it is written.
    let text = str::from_utf8(body).map_err(|error| error.to_string())?;
    let review: AdmissionReview<_> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let request: Result<_, ConvertAdmissionReviewError> = review.try_into();
    request.map_err(|error| error.to_string())
}

/// Refuses mistakes that this very change makes: an object that has one already, from
/// times without this webhook, can still be repaired, finalized and labelled.
fn decide(request: &AdmissionRequest<DynamicObject>, cluster: &Cluster) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let Some(object) = &request.object else {
        return response;
    };
    // A kind that somebody added to the rules is somebody else's business.
    let Some(kind) = kinds::find(&request.kind.group, &request.kind.kind) else {
        return response;
    };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let is_enrolled = cluster.is_enrolled(namespace);
    let problems = |object| {
        let mut problems = kinds::problems(kind, object, Form::Admission);
        problems.extend(kinds::foreign_probes(kind, object, is_enrolled));
        problems.extend(cluster.refused_by_floor(kind, namespace, object));
        problems.extend(cluster.refused_http_rules(kind, object));
        problems
    };
    let before = request.old_object.as_ref().map(problems);
    let before = before.unwrap_or_default();
    let made: Vec<_> = problems(object)
        .into_iter()
        .filter(|problem| !before.contains(problem))
        .collect();
    if made.is_empty() {
        return response;
    }
    let made: Vec<_> = made.iter().map(ToString::to_string).collect();
    let made = made.join("; ");
    tracing::info!(
        %kind,
        namespace = request.namespace,
        name = request.name,
        user = request.user_info.username,
        problems = made,
        "refused"
    );
    response.deny(made)
}

fn with_gate(
    request: &AdmissionRequest<DynamicObject>,
    reviewer: &Reviewer,
    is_namespace_in: bool,
) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let cluster = &reviewer.cluster;
    let pod = new_pod(request).filter(|pod| cluster.needs_gate(namespace, pod, is_namespace_in));
    match pod {
        Some(pod) => patched(response, request, &[readiness_gate(&pod.data)]),
        None => response,
    }
}

fn with_sidecar(
    request: &AdmissionRequest<DynamicObject>,
    reviewer: &Reviewer,
    is_namespace_in: bool,
) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let admitted = new_pod(request).and_then(|pod| {
        let cluster = &reviewer.cluster;
        Some((pod, cluster.admitted_pod(namespace, pod, is_namespace_in)?))
    });
    let Some((pod, admitted)) = admitted else {
        return response;
    };
    let Ok(document) = serde_json::to_value(pod) else {
        return response;
    };
    match injection(namespace, &document, &admitted, &reviewer.injection) {
        Ok(additions) if additions.is_empty() => response,
        Ok(additions) => patched(response, request, &additions),
        Err(problem) => {
            let user = &request.user_info.username;
            tracing::info!(namespace, name = request.name, ?user, %problem, "refused");
            response.deny(problem.to_string())
        }
    }
}

/// The pod that a request makes.
fn new_pod(request: &AdmissionRequest<DynamicObject>) -> Option<&DynamicObject> {
    let is_pod = kinds::is_pod(&request.kind.group, &request.kind.kind);
    let is_new_pod = is_pod && request.operation == Operation::Create;
    request.object.as_ref().filter(|_| is_new_pod)
}

fn patched(
    response: AdmissionResponse,
    request: &AdmissionRequest<DynamicObject>,
    additions: &[Addition],
) -> AdmissionResponse {
    let operations: Vec<_> = additions.iter().map(Addition::operation).collect();
    let patch = serde_json::from_value(Value::Array(operations));
    let patched = patch.map_err(|error| error.to_string()).and_then(|patch| {
        let response = response.clone().with_patch(patch);
        response.map_err(|error| error.to_string())
    });
    patched.unwrap_or_else(|error| {
        let (namespace, name) = (&request.namespace, &request.name);
        tracing::error!(?namespace, name, error, "can't change a new pod");
        response
    })
}

#[cfg(test)]
mod tests;
