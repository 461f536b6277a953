//! What the API server refuses because the mesh could not follow it, and what is said
//! of what it took.

use std::path::Path;

use serde_json::{Value, json};
use weft_tests::wait_for;

use weft_proto::v1::CaptureState;

use crate::bed::{Bed, ControlPlane, LIMIT};
use crate::capture::wait_for_condition;

/// Installs deploy/base/webhook.yaml, but for a control plane on loopback.
pub(crate) fn register(bed: &Bed, control_plane: &ControlPlane) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(workspace.join("deploy/base/webhook.yaml")).unwrap();
    let configurations: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    for mut configuration in configurations {
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            let service = &webhook["clientConfig"]["service"];
            let path = service["path"].as_str().unwrap();
            let url = format!("https://localhost:{}{path}", control_plane.webhook);
            webhook["clientConfig"] = json!({ "url": url });
            // What isn't answered has to be seen.
            webhook["failurePolicy"] = json!("Fail");
        }
        bed.kubectl().apply(&configuration.to_string()).unwrap();
        let kind = configuration["kind"].as_str().unwrap().to_lowercase();
        wait_for("the roots in a webhook's configuration", LIMIT, || {
            let object = bed.kubectl().json(&["get", &kind, "weft"]);
            let object = object.map_err(|error| error.to_string())?;
            let webhooks = object["webhooks"].as_array().unwrap().iter();
            let mut bundles = webhooks.map(|webhook| &webhook["clientConfig"]["caBundle"]);
            match bundles.all(Value::is_string) {
                true => Ok(()),
                false => Err(control_plane.log()),
            }
        })
        .unwrap();
    }
}

/// A webhook that answers: until the API server has taken up the roots, it fails.
fn wait_until_answered(mut change: impl FnMut() -> Result<(), String>) {
    wait_for("a webhook that answers", LIMIT, || match change() {
        Err(error) if error.contains("failed calling webhook") => Err(error),
        _ => Ok(()),
    })
    .unwrap();
}

fn gates(bed: &Bed, namespace: &str, name: &str) -> Value {
    let pod = bed.kubectl().json(&["get", "pod", name, "-n", namespace]);
    pod.unwrap()["spec"]["readinessGates"].clone()
}

/// A pod of an enrolled namespace, made anew until the control plane knows the namespace.
fn make_gated_pod(bed: &Bed, name: &str, node: &str) {
    let expected = json!([{ "conditionType": "weft.dev/Captured" }]);
    wait_for("the gate", LIMIT, || {
        bed.pod("shop", name, node, "default");
        match gates(bed, "shop", name) == expected {
            true => Ok(()),
            false => {
                let delete = ["delete", "pod", name, "-n", "shop", "--force"];
                bed.kubectl().run(&delete).unwrap();
                Err("not there".to_owned())
            }
        }
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_to_be_in_the_mesh_is_ready_when_it_is_captured_and_stays_so_outside() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    register(&bed, &control_plane);
    let labelled = json!({ "weft.dev/mesh": "enabled" });
    wait_until_answered(|| {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "shop", "labels": labelled },
        });
        let applied = bed.kubectl().apply(&namespace.to_string());
        applied.map(drop).map_err(|error| error.to_string())
    });
    bed.kubectl()
        .run(&["create", "serviceaccount", "default", "-n", "shop"])
        .unwrap();
    bed.namespace("bank", &json!({}));
    make_gated_pod(&bed, "web", "node-1");
    bed.pod("bank", "teller", "node-1", "default");
    assert_eq!(gates(&bed, "bank", "teller"), Value::Null);

    let uid = bed.uid("shop", "web");
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    stream.synchronize().await;
    stream.report(&uid, CaptureState::Captured, "").await;
    wait_for_condition(&bed, "web", "True", "Captured");
    bed.kubectl()
        .run(&["label", "namespace", "shop", "weft.dev/mesh-"])
        .unwrap();
    control_plane.wait_for_workload(&uid, "enrolment", "Outside");
    stream.report(&uid, CaptureState::Released, "").await;
    wait_for_condition(&bed, "web", "True", "NotInMesh");
    // It isn't taken for captured when it comes back.
    bed.kubectl()
        .run(&["label", "namespace", "shop", "weft.dev/mesh=enabled"])
        .unwrap();
    control_plane.wait_for_workload(&uid, "enrolment", "Pending");

    // Of a node without an agent, and of a pod that leaves before it was captured.
    make_gated_pod(&bed, "lost", "node-2");
    let said = wait_for_condition(&bed, "lost", "False", "AwaitingCapture");
    assert!(
        said["message"].as_str().unwrap().contains("node-2"),
        "{said}"
    );
    let leave = [
        "annotate",
        "pod",
        "lost",
        "-n",
        "shop",
        "weft.dev/mesh=disabled",
    ];
    bed.kubectl().run(&leave).unwrap();
    wait_for_condition(&bed, "lost", "True", "NotInMesh");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_below_the_floor_is_refused_at_admission_and_told_where_it_is_already() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let uid = bed.pod("shop", "web", "node-1", "default");
    let permissive = |pod: &str| {
        let annotation = "weft.dev/mtls-mode=permissive";
        let annotate = ["annotate", "pod", pod, "-n", "shop", annotation];
        bed.kubectl()
            .run(&annotate)
            .map_err(|error| error.to_string())
    };
    permissive("web").unwrap();
    bed.pod("shop", "api", "node-1", "default");
    let control_plane = bed.start("a");
    control_plane.wait_for_workload(&uid, "mtls_mode", "permissive");
    let config = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
        "metadata": { "name": "default" }, "spec": { "floor": { "mtlsMode": "strict" } },
    });
    bed.kubectl().apply(&config.to_string()).unwrap();
    control_plane.wait_for_workload(&uid, "mtls_mode", "strict");
    let events = ["get", "events", "-n", "shop"];
    bed.kubectl()
        .wait("an event", LIMIT, &events, |text| {
            text.contains("BelowFloor") && text.contains("weft.dev/mtls-mode")
        })
        .unwrap();
    register(&bed, &control_plane);
    let mut refused = String::new();
    wait_until_answered(|| {
        let error = permissive("api").unwrap_err();
        refused.clone_from(&error);
        Err(error)
    });
    assert!(
        refused.contains("metadata.annotations[weft.dev/mtls-mode]")
            && refused.contains("spec.floor.mtlsMode"),
        "{refused}"
    );
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
async fn pods_of_the_mesh_that_have_others_probed_are_refused_and_those_outside_are_not() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    register(&bed, &control_plane);
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    bed.namespace("elsewhere", &json!({}));
    let uid = bed.pod("shop", "known", "node-1", "default");
    control_plane.wait_for_workload(&uid, "mtls_mode", "permissive");
    let (get, hook) = (
        json!({ "httpGet": { "path": "/", "port": 80, "host": "10.0.0.8" } }),
        json!({ "postStart": { "httpGet": { "port": 80, "host": "10.0.0.8" } } }),
    );
    let tcp = json!({ "tcpSocket": { "port": 80, "host": "10.0.0.8" } });
    let app = |field: &str, value: &Value| json!({ "name": "app", "image": "app", field: value });
    let pod = |namespace: &str, name: &str, spec: Value| {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace }, "spec": spec,
        });
        bed.kubectl().apply(&manifest.to_string())
    };
    let sidecar = |value: &Value| {
        let mut sidecar = app("startupProbe", value);
        sidecar["restartPolicy"] = json!("Always");
        json!({ "containers": [{ "name": "web", "image": "web" }], "initContainers": [sidecar] })
    };
    for (spec, field) in [
        (
            json!({ "containers": [app("livenessProbe", &get)] }),
            "spec.containers[0].livenessProbe.httpGet.host",
        ),
        (
            json!({ "containers": [app("readinessProbe", &tcp)] }),
            "spec.containers[0].readinessProbe.tcpSocket.host",
        ),
        (
            json!({ "containers": [app("lifecycle", &hook)] }),
            "spec.containers[0].lifecycle.postStart.httpGet.host",
        ),
        (
            sidecar(&get),
            "spec.initContainers[0].startupProbe.httpGet.host",
        ),
    ] {
        // Until the API server has taken up the roots, it fails for another reason.
        wait_for("the refusal", LIMIT, || {
            let error = pod("shop", "web", spec.clone()).unwrap_err().to_string();
            error.contains(field).then_some(()).ok_or(error)
        })
        .unwrap();
    }
    let outside = json!({ "containers": [app("livenessProbe", &get)] });
    pod("elsewhere", "web", outside).unwrap();
    let own = json!({ "httpGet": { "path": "/", "port": 80 } });
    let own = json!({ "containers": [app("livenessProbe", &own)] });
    pod("shop", "web", own).unwrap();
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
            "supported values: \"disabled\", \"permissive\", \"strict\"",
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
