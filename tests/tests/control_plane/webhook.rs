//! What the API server refuses because the mesh could not follow it, and what is said
//! of what it took.

use std::path::Path;

use serde_json::{Value, json};
use weft_tests::wait_for;

use crate::bed::{Bed, ControlPlane, LIMIT};

/// Installs deploy/base/webhook.yaml, but for a control plane on loopback.
pub(crate) fn register(bed: &Bed, control_plane: &ControlPlane) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(workspace.join("deploy/base/webhook.yaml")).unwrap();
    let mut configuration: Value = serde_saphyr::from_str(&text).unwrap();
    let webhook = &mut configuration["webhooks"][0];
    let service = &webhook["clientConfig"]["service"];
    let path = service["path"].as_str().unwrap();
    let url = format!("https://localhost:{}{path}", control_plane.webhook);
    webhook["clientConfig"] = json!({ "url": url });
    // What isn't answered has to be seen.
    webhook["failurePolicy"] = json!("Fail");
    bed.kubectl().apply(&configuration.to_string()).unwrap();
    wait_for("the roots in the webhook's configuration", LIMIT, || {
        let get = ["get", "validatingwebhookconfiguration", "weft"];
        let object = bed
            .kubectl()
            .json(&get)
            .map_err(|error| error.to_string())?;
        let bundle = &object["webhooks"][0]["clientConfig"]["caBundle"];
        bundle.as_str().map(drop).ok_or_else(|| control_plane.log())
    })
    .unwrap();
}

fn namespace(mesh: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "weft.dev/mesh": mesh } },
    })
    .to_string()
}

fn pod(mode: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web", "namespace": "default",
            "annotations": { "weft.dev/mtls-mode": mode },
        },
        "spec": { "containers": [{ "name": "app", "image": "app" }] },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_refused_when_they_are_made_and_the_error_names_the_field() {
    let bed = Bed::new();
    bed.kubectl()
        .run(&["create", "serviceaccount", "default"])
        .unwrap();
    // Made before there was anyone to refuse it.
    bed.kubectl()
        .apply(&pod("mutual").replace("web", "old"))
        .unwrap();
    let control_plane = bed.start("a");
    register(&bed, &control_plane);
    let refused = |object: &str| bed.kubectl().apply(object).unwrap_err().to_string();

    // Until the API server has taken up the roots, it fails for another reason.
    wait_for("a refusal in the webhook's words", LIMIT, || {
        let error = refused(&namespace("yes"));
        match error.contains("`yes` is neither `enabled` nor `disabled`") {
            true => Ok(()),
            false => Err(error),
        }
    })
    .unwrap();
    bed.kubectl().apply(&namespace("enabled")).unwrap();
    let error = refused(&pod("mutual"));
    assert!(
        error.contains("metadata.annotations[weft.dev/mtls-mode]"),
        "{error}"
    );
    bed.kubectl().apply(&pod("strict")).unwrap();
    let change = [
        "annotate",
        "pod",
        "web",
        "weft.dev/exclude-outbound-ports=http",
    ];
    let error = bed.kubectl().run(&change).unwrap_err().to_string();
    assert!(error.contains("`http` is not a port"), "{error}");
    bed.kubectl()
        .run(&["label", "pod", "old", "tier=back"])
        .unwrap();

    let policy = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "targetRef": { "kind": "Service", "name": "web" },
            "timeouts": { "request": "1s", "backendRequest": "2s" },
        },
    });
    let error = refused(&policy.to_string());
    assert!(
        error.contains("spec.timeouts.backendRequest: longer than the request"),
        "{error}"
    );

    // The control plane is gone: whatever asks nothing of the mesh goes on, even so.
    control_plane.stop();
    bed.kubectl()
        .run(&["create", "namespace", "other"])
        .unwrap();
    let error = refused(&pod("mutual"));
    assert!(error.contains("failed calling webhook"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_config_is_checked_by_its_schema_and_says_that_it_is_followed() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let uid = bed.pod("shop", "web", "node-1", "default");
    control_plane.wait_for_workload(&uid, "mtls_mode", "permissive");
    let config = |name: &str, spec: Value| {
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
            "metadata": { "name": name }, "spec": spec,
        })
        .to_string()
    };
    let strict = json!({ "trustDomain": "example.org", "mtls": { "mode": "strict" } });
    bed.kubectl().apply(&config("default", strict)).unwrap();
    control_plane.wait_for_workload(&uid, "mtls_mode", "strict");
    // Columns: name, mTLS, trust domain, accepted, age.
    let table = ["get", "meshcfg", "--no-headers"];
    bed.kubectl()
        .wait("the table", LIMIT, &table, |text| {
            let columns: Vec<_> = text.split_whitespace().collect();
            columns.starts_with(&["default", "strict", "example.org", "True"])
        })
        .unwrap();

    for (name, spec, why) in [
        ("other", json!({}), "one MeshConfig, named `default`"),
        (
            "default",
            json!({ "trustDomain": "example.org", "mtls": { "mode": "mutual" } }),
            "supported values: \"permissive\", \"strict\"",
        ),
        (
            "default",
            json!({ "trustDomain": "example.com" }),
            "can't be changed",
        ),
        (
            "default",
            json!({ "trustDomain": "Example/Org" }),
            "spec.trustDomain",
        ),
    ] {
        let error = bed.kubectl().apply(&config(name, spec)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    bed.kubectl()
        .run(&["delete", "meshcfg", "default"])
        .unwrap();
    control_plane.wait_for_workload(&uid, "mtls_mode", "permissive");
}
