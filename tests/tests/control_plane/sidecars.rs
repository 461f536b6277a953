//! Sidecars, as a real API server takes them: the pods that are injected, the roots in their
//! namespaces, the labels of nodes that need them.

use serde_json::{Value, json};
use weft_proto::v1::CaptureState;
use weft_tests::wait_for;

use crate::bed::{Bed, ControlPlane, LIMIT};
use crate::capture::wait_for_condition;
use crate::webhook::register;

fn init_containers(bed: &Bed, namespace: &str, name: &str) -> Vec<String> {
    let pod = bed.kubectl().json(&["get", "pod", name, "-n", namespace]);
    let pod = pod.unwrap();
    let containers = pod["spec"]["initContainers"].as_array().cloned();
    let containers = containers.unwrap_or_default();
    let names = containers.iter().map(|one| one["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

/// A new pod, made anew until it has as many init containers: until the API server trusts the
/// webhook it makes none, and the control plane has to hear of what it decides by.
fn make_pod(bed: &Bed, namespace: &str, name: &str, init: &[&str]) {
    wait_for("a pod with these init containers", LIMIT, || {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "nodeName": "node-1", "serviceAccountName": "default",
                "containers": [{
                    "name": "app", "image": "app",
                    // It can't become the sidecar's user.
                    "securityContext": {
                        "runAsUser": 1000, "allowPrivilegeEscalation": false,
                        "capabilities": { "drop": ["ALL"] },
                    },
                }],
            },
        });
        let made = bed.kubectl().apply(&pod.to_string());
        made.map_err(|error| error.to_string())?;
        let found = init_containers(bed, namespace, name);
        match found == init {
            true => Ok(()),
            false => {
                let delete = ["delete", "pod", name, "-n", namespace, "--force"];
                bed.kubectl().run(&delete).unwrap();
                Err(format!("{found:?}"))
            }
        }
    })
    .unwrap();
}

const SIDECAR: [&str; 2] = ["weft-init", "weft-proxy"];

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_pod_is_taken_and_its_namespace_gets_the_roots() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    register(&bed, &control_plane);
    let labels = json!({ "weft.dev/mesh": "enabled", "weft.dev/mode": "sidecar" });
    wait_for("a webhook that answers", LIMIT, || {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "shop", "labels": labels },
        });
        let applied = bed.kubectl().apply(&namespace.to_string());
        applied.map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
    bed.kubectl()
        .run(&["create", "serviceaccount", "default", "-n", "shop"])
        .unwrap();
    make_pod(&bed, "shop", "web", &SIDECAR);
    let uid = bed.uid("shop", "web");
    control_plane.wait_for_workload(&uid, "enrolment", "Pending");
    let path = ["get", "configmap", "weft-root-certificates", "-n", "shop"];
    let roots = wait_for("the roots in the pod's namespace", LIMIT, || {
        let object = bed.kubectl().json(&path);
        let object = object.map_err(|error| format!("{error}; {}", control_plane.log()))?;
        let roots = object["data"]["ca.crt"].as_str().map(str::to_owned);
        roots.ok_or_else(|| object.to_string())
    });
    assert_eq!(roots.unwrap().into_bytes(), bed.roots());

    // Its node's agent has no say in it.
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    stream.synchronize().await;
    stream.report(&uid, CaptureState::Captured, "").await;
    wait_for_condition(&bed, "web", "False", "AwaitingCapture");

    // The sidecar has, by its pod's own token.
    capture_by_sidecar(&bed, &control_plane, &uid).await;
}

/// The sidecar of the pod `web` is known as one, and says that it has captured its pod.
async fn capture_by_sidecar(bed: &Bed, control_plane: &ControlPlane, uid: &str) {
    let token = [
        "create",
        "token",
        "default",
        "-n",
        "shop",
        "--audience=weft-control-plane",
        "--bound-object-kind=Pod",
        "--bound-object-name=web",
    ];
    let token = bed.kubectl().run(&token).unwrap();
    let sidecar = bed.agent(control_plane, "node-1", token.trim()).await;
    let mut stream = sidecar.as_sidecar(uid).subscribe().await.unwrap();
    stream.synchronize().await;
    stream.report(uid, CaptureState::Captured, "").await;
    wait_for_condition(bed, "web", "True", "Sidecar");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_of_a_registry_before_counts_where_nobody_may_leave() {
    let bed = Bed::new();
    let floor = json!({ "optOut": "Forbidden", "enrolledNamespaces": { "names": ["shop"] } });
    let config = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
        "metadata": { "name": "default" }, "spec": { "floor": floor },
    });
    bed.kubectl().apply(&config.to_string()).unwrap();
    let labels = json!({ "weft.dev/mesh": "enabled", "weft.dev/mode": "sidecar" });
    bed.namespace("shop", &labels);
    let before = bed.start("a");
    register(&bed, &before);
    make_pod(&bed, "shop", "web", &SIDECAR);
    let uid = bed.uid("shop", "web");
    before.wait_for_workload(&uid, "enrolment", "Pending");
    // Nobody is let in who would lead around it.
    let debug = [
        "debug",
        "web",
        "-n",
        "shop",
        "--image=app",
        "--profile=sysadmin",
        "--attach=false",
    ];
    let refused = bed.kubectl().run(&debug).unwrap_err().to_string();
    assert!(refused.contains("spec.ephemeralContainers[0]"), "{refused}");
    before.stop();
    let moved = [
        "--sidecar-image=registry.example.com/weft/sidecar:2",
        "--sidecar-control-plane=https://mesh.example.com:15010",
    ];
    let after = bed.start_with("b", &moved);
    after.wait_for_workload(&uid, "enrolment", "Pending");
    capture_by_sidecar(&bed, &after, &uid).await;
    let path = [
        "get",
        "configmap",
        "weft-known-sidecars",
        "-n",
        "weft-system",
    ];
    let known = bed.kubectl().json(&path).unwrap()["data"]["sidecars.json"].clone();
    let known: Value = serde_json::from_str(known.as_str().unwrap()).unwrap();
    let repositories = known.as_array().unwrap().iter();
    let repositories: Vec<_> = repositories.map(|one| &one["repository"]).collect();
    assert_eq!(
        repositories,
        ["weft/sidecar", "registry.example.com/weft/sidecar"]
    );
    what_can_not_be_read_changes_nothing(&bed, &after, &uid).await;
}

/// Somebody breaks the list of known sidecars while a control plane runs: what it knew counts on, that
/// of the registry before, too, and the log says what to correct.
async fn what_can_not_be_read_changes_nothing(bed: &Bed, control_plane: &ControlPlane, uid: &str) {
    let path = ["configmap", "weft-known-sidecars", "-n", "weft-system"];
    let write = |content: &str| {
        let patch = json!({ "data": { "sidecars.json": content } }).to_string();
        let line = [&["patch"], &path[..], &["--type=merge", "--patch", &patch]];
        bed.kubectl().run(&line.concat()).unwrap();
    };
    let content = || {
        let object = bed.kubectl().json(&[&["get"], &path[..]].concat()).unwrap();
        object["data"]["sidecars.json"].as_str().map(str::to_owned)
    };
    let good = content().unwrap();
    for (broken, mistake) in [("[{", "EOF while parsing"), (r#"{"a": 1}"#, "a sequence")] {
        write(broken);
        wait_for("the mistake in the log", LIMIT, || {
            let log = control_plane.log();
            let is_there = log.contains("the sidecars that are known stay the same")
                && log.contains("correct or delete it")
                && log.contains(mistake);
            is_there.then_some(()).ok_or(log)
        })
        .unwrap();
        assert_eq!(content().as_deref(), Some(broken), "the operator's to mend");
        capture_by_sidecar(bed, control_plane, uid).await;
    }
    write(&good);
    capture_by_sidecar(bed, control_plane, uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_labelled_as_its_agent_found_it_and_auto_follows() {
    let bed = Bed::new();
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } });
    bed.kubectl().apply(&node.to_string()).unwrap();
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let control_plane = bed.start("a");
    register(&bed, &control_plane);
    let token = bed.agent_token("node-1");
    let label = |expected: &str| {
        wait_for("the node's label", LIMIT, || {
            let node = bed.kubectl().json(&["get", "node", "node-1"]).unwrap();
            match &node["metadata"]["labels"]["weft.dev/ebpf"] {
                Value::String(label) if label == expected => Ok(()),
                other => Err(format!("{other}; {}", control_plane.log())),
            }
        })
        .unwrap();
    };
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let incapable = agent.clone().having_tried(Some("no sk_lookup"));
    let stream = incapable.subscribe().await.unwrap();
    label("false");
    make_pod(&bed, "shop", "old", &SIDECAR);
    drop(stream);
    let _stream = agent.having_tried(None).subscribe().await.unwrap();
    label("true");
    make_pod(&bed, "shop", "new", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_agents_can_capture_is_kept_off_a_node_that_can_not() {
    let bed = Bed::new();
    for (name, can_capture) in [("new", "true"), ("old", "false")] {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": { "weft.dev/ebpf": can_capture } },
        });
        bed.kubectl().apply(&node.to_string()).unwrap();
    }
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let control_plane = bed.start("a");
    register(&bed, &control_plane);
    let ours = json!([{ "key": "weft.dev/ebpf", "operator": "NotIn", "values": ["false"] }]);
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    wait_for("a pod that is kept off", LIMIT, || {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "serviceAccountName": "default",
                "containers": [{ "name": "app", "image": "app" }],
            },
        });
        let made = bed.kubectl().apply(&pod.to_string());
        made.map_err(|error| error.to_string())?;
        let pod = bed.kubectl().json(&["get", "pod", "web", "-n", "shop"]);
        let pod = pod.unwrap();
        let terms = pod.pointer(&format!("{required}/nodeSelectorTerms"));
        if terms == Some(&json!([{ "matchExpressions": ours }])) {
            return Ok(());
        }
        let delete = ["delete", "pod", "web", "-n", "shop", "--force"];
        bed.kubectl().run(&delete).unwrap();
        Err(format!("{terms:?}; {}", control_plane.log()))
    })
    .unwrap();
    assert!(init_containers(&bed, "shop", "web").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_only_the_floor_enrols_get_gates_and_sidecars() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    register(&bed, &control_plane);
    let selector = json!({ "matchLabels": { "team": "payments" } });
    let enrolled = json!({ "names": ["shop"], "selector": selector });
    let config = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
        "metadata": { "name": "default" },
        "spec": { "floor": { "enrolledNamespaces": enrolled } },
    });
    wait_for("a webhook that answers", LIMIT, || {
        let applied = bed.kubectl().apply(&config.to_string());
        applied.map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
    let mode = json!({ "weft.dev/mode": "sidecar" });
    bed.namespace("shop", &mode);
    let mut labels = mode.clone();
    labels["team"] = json!("payments");
    bed.namespace("bank", &labels);
    bed.namespace("outside", &mode);
    for namespace in ["shop", "bank"] {
        make_pod(&bed, namespace, "web", &SIDECAR);
        let pod = ["get", "pod", "web", "-n", namespace];
        let gates = bed.kubectl().json(&pod).unwrap()["spec"]["readinessGates"].clone();
        assert_eq!(gates, json!([{ "conditionType": "weft.dev/Captured" }]));
    }
    make_pod(&bed, "outside", "web", &[]);
    // They go with the floor.
    bed.kubectl()
        .run(&["delete", "meshconfig", "default"])
        .unwrap();
    wait_for("the webhooks of the floor to go", LIMIT, || {
        let path = ["get", "mutatingwebhookconfiguration", "weft"];
        let configuration = bed.kubectl().json(&path).unwrap();
        let webhooks = configuration["webhooks"].as_array().unwrap().iter();
        let mut names = webhooks.map(|webhook| webhook["name"].as_str().unwrap());
        match names.any(|name| name.starts_with("floor-")) {
            false => Ok(()),
            true => Err(configuration.to_string()),
        }
    })
    .unwrap();
}
