//! The decision to admit an object.

use kube::core::DynamicObject;
use kube::core::admission::{
    AdmissionRequest, AdmissionResponse, AdmissionReview, ConvertAdmissionReviewError,
};

use crate::kinds::{self, Form};

/// The answer to a review, as the API server sent it.
pub(super) fn answer(body: &[u8]) -> AdmissionReview<DynamicObject> {
    match parse(body) {
        Ok(request) => decide(&request).into_review(),
        Err(error) => {
            let what = format!("this is no admission.k8s.io/v1 AdmissionReview: {error}");
            AdmissionResponse::invalid(what).into_review()
        }
    }
}

fn parse(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    let review: AdmissionReview<_> =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let request: Result<_, ConvertAdmissionReviewError> = review.try_into();
    request.map_err(|error| error.to_string())
}

/// Refuses mistakes that this very change makes: an object that has one already, from
/// times without this webhook, can still be repaired, finalized and labelled.
fn decide(request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let Some(object) = &request.object else {
        return response;
    };
    // A kind that somebody added to the rules is somebody else's business.
    let Some(kind) = kinds::find(&request.kind.group, &request.kind.kind) else {
        return response;
    };
    let problems = |object| kinds::problems(kind, object, Form::Admission);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review(object: Value, old: Option<Value>) -> Value {
        let kind = object["kind"].clone();
        let version = object["apiVersion"].as_str().unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1",
                "kind": { "group": group, "version": version, "kind": kind },
                "resource": { "group": group, "version": version, "resource": "things" },
                "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
                "userInfo": {}, "object": object, "oldObject": old,
            },
        });
        serde_json::to_value(answer(review.to_string().as_bytes())).unwrap()
    }

    fn pod(mode: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "generateName": "web-", "annotations": { "weft.dev/mtls-mode": mode } },
            "spec": { "containers": [] },
        })
    }

    #[test]
    fn a_pod_that_no_node_was_chosen_for_is_checked_by_its_annotations() {
        assert_eq!(review(pod("strict"), None)["response"]["allowed"], true);
        let refused = review(pod("mutual"), None);
        assert_eq!(refused["response"]["allowed"], false);
        assert_eq!(refused["response"]["uid"], "u-1");
        let message = refused["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains("weft.dev/mtls-mode"), "{message}");
        assert!(message.contains("`permissive` or `strict`"), "{message}");
    }

    #[test]
    fn an_old_mistake_keeps_nobody_from_changing_something_else() {
        let mut labelled = pod("mutual");
        labelled["metadata"]["labels"] = json!({ "app": "web" });
        let answer = review(labelled, Some(pod("mutual")));
        assert_eq!(answer["response"]["allowed"], true);
        let another = review(pod("encrypted"), Some(pod("mutual")));
        assert_eq!(another["response"]["allowed"], false);
    }

    #[test]
    fn namespaces_and_mesh_configs_are_checked_too() {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "shop", "labels": { "weft.dev/mesh": "yes" } },
        });
        assert_eq!(review(namespace, None)["response"]["allowed"], false);
        let config = |domain: &str| {
            json!({
                "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
                "metadata": { "name": "default" }, "spec": { "trustDomain": domain },
            })
        };
        assert_eq!(
            review(config("example.org"), None)["response"]["allowed"],
            true
        );
        assert_eq!(
            review(config("example_org/"), None)["response"]["allowed"],
            false
        );
        let external = |host: &str| {
            json!({
                "apiVersion": "weft.dev/v1alpha1", "kind": "ExternalService",
                "metadata": { "generateName": "pay-" },
                "spec": { "hosts": [host], "ports": [{ "number": 443, "protocol": "TLS" }] },
            })
        };
        assert_eq!(
            review(external("*.pay.example"), None)["response"]["allowed"],
            true
        );
        let refused = review(external("*"), None);
        let message = refused["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains("spec.hosts[0]"), "{message}");
    }

    fn route(parent: Value, rule: Value) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "generateName": "web-", "namespace": "shop" },
            "spec": { "parentRefs": [parent], "rules": [rule] },
        })
    }

    #[test]
    fn routes_of_services_are_checked_for_what_their_schema_can_not_say() {
        let service = json!({ "group": "", "kind": "Service", "name": "web" });
        let refused = |rule: Value| review(route(service.clone(), rule), None)["response"].clone();
        let path = |kind: &str| json!([{ "path": { "type": kind, "value": "/a(" } }]);
        let answer = refused(json!({ "matches": path("RegularExpression") }));
        assert_eq!(answer["allowed"], false);
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("spec.rules[0].matches[0].path.value"),
            "{message}"
        );
        let exposed = json!({ "exposeHeaders": ["*"], "allowCredentials": true });
        for rule in [
            json!({ "filters": [{ "type": "CORS", "cors": exposed }] }),
            json!({ "filters": [{ "type": "ExtensionRef", "extensionRef": {} }] }),
            json!({ "matches": [{ "path": { "type": "Exact", "value": "/a" } }], "filters": [{
                "type": "URLRewrite",
                "urlRewrite": { "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" } },
            }] }),
        ] {
            assert_eq!(refused(rule.clone())["allowed"], false, "{rule}");
        }
        assert_eq!(
            refused(json!({ "matches": path("PathPrefix") }))["allowed"],
            true
        );
        // What isn't there may come yet.
        assert_eq!(
            refused(json!({ "backendRefs": [{ "name": "b" }] }))["allowed"],
            true
        );
        // What other people's Gateways do with it is their business.
        let gateway = json!({ "name": "edge" });
        let theirs = route(gateway, json!({ "matches": path("RegularExpression") }));
        assert_eq!(review(theirs, None)["response"]["allowed"], true);
    }

    #[test]
    fn a_traffic_policy_is_refused_for_what_its_schema_can_not_say() {
        let policy = |timeout: &str| {
            json!({
                "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
                "metadata": { "name": "web", "namespace": "shop" },
                "spec": {
                    "targetRef": { "kind": "Service", "name": "web" },
                    "timeouts": { "request": "1s", "backendRequest": timeout },
                },
            })
        };
        assert_eq!(review(policy("1s"), None)["response"]["allowed"], true);
        let refused = review(policy("2s"), None);
        assert_eq!(refused["response"]["allowed"], false);
        let message = refused["response"]["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("spec.timeouts.backendRequest"),
            "{message}"
        );
    }

    /// Somebody may have added them to the rules.
    #[test]
    fn kinds_that_ask_nothing_of_the_mesh_are_let_through_as_they_are() {
        for (version, kind) in [
            ("v1", "Service"),
            ("v1", "ServiceAccount"),
            ("v1", "Node"),
            ("v1", "ConfigMap"),
            ("discovery.k8s.io/v1", "EndpointSlice"),
        ] {
            let object = json!({
                "apiVersion": version, "kind": kind, "metadata": { "generateName": "web-" },
                "spec": { "ports": [{ "port": 80 }] }, "addressType": "IPv4", "endpoints": [],
            });
            assert_eq!(review(object, None)["response"]["allowed"], true, "{kind}");
        }
    }

    #[test]
    fn what_is_no_review_is_refused_with_words() {
        let answer = serde_json::to_value(answer(b"{}")).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains("AdmissionReview"), "{message}");
    }
}
