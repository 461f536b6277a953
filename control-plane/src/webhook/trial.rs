//! Reviews of anything at all: what may not happen, whatever the API server, or somebody in its
//! place, sends.

use std::sync::Arc;

use kube::core::DynamicObject;
use kube::core::admission::AdmissionReview;
use serde_json::Value;

use super::review::{self, Review, Reviewer};
use crate::cluster::Cluster;
use crate::inject::{InjectionOptions, apply_patch};
use crate::kinds::ProxyMode;

const REVIEWS: [Review; 5] = [
    review::validate,
    review::mutate,
    review::mutate_in_mesh,
    review::inject,
    review::inject_in_mesh,
];

/// Has a review answered on every path, where every pod that may have one is to get a sidecar.
///
/// # Errors
/// In words, when one isn't answered, is refused without a reason, or is changed again once it was
/// changed.
pub fn check_review(body: &[u8]) -> Result<(), String> {
    let injection = InjectionOptions::with_mode(ProxyMode::Sidecar);
    let reviewer = Reviewer {
        cluster: Arc::new(Cluster::of_directory().with_sidecars(injection.sidecars())),
        injection,
    };
    for review in REVIEWS {
        let answer = review(body, &reviewer);
        serde_json::to_vec(&answer).map_err(|error| error.to_string())?;
        let Some(patch) = patch_of(answer)? else {
            continue;
        };
        // One that is no JSON where nobody reads it can't be changed.
        let Ok(review_of_pod) = serde_json::from_slice::<Value>(body) else {
            continue;
        };
        let changed = changed(review_of_pod, &patch)?;
        if patch_of(review(&changed, &reviewer))?.is_some() {
            return Err("a pod that was changed is changed once more".to_owned());
        }
    }
    Ok(())
}

/// The patch of an answer, where it has one.
fn patch_of(answer: AdmissionReview<DynamicObject>) -> Result<Option<Value>, String> {
    let response = answer.response.ok_or("an answer without a response")?;
    if !response.allowed && response.result.message.is_empty() {
        return Err("refused without a reason".to_owned());
    }
    let patch = response.patch.as_deref();
    let patch = patch.map(serde_json::from_slice).transpose();
    patch.map_err(|error| error.to_string())
}

/// The review of the object with the patch in it.
fn changed(mut review: Value, patch: &Value) -> Result<Vec<u8>, String> {
    let object = review.pointer_mut("/request/object");
    apply_patch(patch, object.ok_or("a patch of nothing")?);
    serde_json::to_vec(&review).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A review of a pod that gets gate and sidecar.
    fn review() -> String {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "namespace": "shop", "name": "web", "operation": "CREATE",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "userInfo": {},
                "object": {
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": { "name": "web", "annotations": { "weft.dev/mesh": "enabled" } },
                    "spec": {
                        "serviceAccountName": "web",
                        "containers": [{ "name": "web", "image": "web" }],
                        "initContainers": [], "volumes": null,
                    },
                },
            },
        });
        review.to_string()
    }

    #[test]
    fn a_pod_is_changed_once() {
        check_review(review().as_bytes()).unwrap();
    }

    /// They lead the fuzz target to where pods are changed.
    #[test]
    fn the_seeds_of_the_fuzz_target_are_answered() {
        let reviewer = Reviewer {
            cluster: Arc::new(Cluster::of_directory()),
            injection: InjectionOptions::with_mode(ProxyMode::Sidecar),
        };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/seeds/admission");
        let mut changed = 0;
        for seed in std::fs::read_dir(folder).unwrap() {
            let body = std::fs::read(seed.unwrap().path()).unwrap();
            check_review(&body).unwrap();
            let answer = review::inject(&body, &reviewer).response.unwrap();
            changed += usize::from(answer.patch.is_some());
        }
        assert!(changed > 1, "{changed}");
    }

    /// Both were found by damaging reviews at random.
    #[test]
    fn a_review_that_is_broken_where_nobody_reads_it_is_answered() {
        let broken = review().replace("\"userInfo\":{}", "\"userInfo\":{},\"more\":\"\\ud800\"");
        assert_ne!(broken, review());
        check_review(broken.as_bytes()).unwrap();
        let mut broken = review().into_bytes();
        let at = broken.windows(6).position(|bytes| bytes == b"\"pods\"");
        broken[at.unwrap() + 1] = 128;
        check_review(&broken).unwrap();
        let reviewer = Reviewer {
            cluster: Arc::new(Cluster::of_directory()),
            injection: InjectionOptions::with_mode(ProxyMode::Sidecar),
        };
        let answer = review::inject(&broken, &reviewer).response.unwrap();
        assert!(
            !answer.allowed && answer.result.message.contains("utf-8"),
            "{answer:?}"
        );
    }

    proptest! {
        #[test]
        fn no_review_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            check_review(&body).unwrap();
        }

        /// A valid one in which some bytes are others.
        #[test]
        fn a_damaged_review_is_answered(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let mut body = review().into_bytes();
            for (place, byte) in damage {
                let length = body.len();
                body[place.index(length)] = byte;
            }
            check_review(&body).unwrap();
        }
    }
}
