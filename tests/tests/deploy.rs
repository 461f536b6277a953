//! What `kubectl apply -k deploy/` and the Helm chart install: the same.

// Helpers of tests: what fails there fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use weft_provision::go::Kit;
use weft_tests::cluster::Binaries;

type Objects = BTreeMap<String, Value>;

#[test]
fn the_chart_makes_the_same_objects_as_the_kustomization() {
    let kustomized = objects(&run(program("kubernetes/kubectl")
        .arg("kustomize")
        .arg(root().join("deploy"))));
    // Helm wants the namespace to be there before; the kustomization brings it.
    let charted = objects(&template(&[
        "--include-crds",
        "--set=namespace.create=true",
    ]));
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&charted), names(&kustomized));
    for (name, object) in &kustomized {
        assert_eq!(&charted[name], object, "{name}");
    }
}

#[test]
fn monitoring_is_the_same_from_both_and_absent_by_default() {
    let of_default = objects(&template(&[]));
    let values = "--set=monitoring.monitors=true,monitoring.rules=true,monitoring.dashboards=true";
    let mut charted = objects(&template(&[values]));
    for name in of_default.keys() {
        assert!(charted.remove(name).is_some(), "{name}");
    }
    let labelled = format!("{values},monitoring.labels.release=a");
    for name in ["PrometheusRule weft", "PodMonitor weft-node-agent"] {
        let labels = &objects(&template(&[&labelled]))[name]["metadata"]["labels"];
        assert_eq!(labels["release"], "a", "{name}");
    }
    // Kustomize knows no components, and no absolute paths, on its command line.
    let folder = tempfile::tempdir().unwrap();
    let up = folder.path().canonicalize().unwrap();
    let up = "../".repeat(up.components().count() - 1);
    let deploy = format!("{up}{}", root().join("deploy").display()).replace("//", "/");
    let overlay = format!("resources: [{deploy}]\ncomponents: [{deploy}/monitoring]\n");
    std::fs::write(folder.path().join("kustomization.yaml"), overlay).unwrap();
    let kustomize = |folder: &Path| {
        let text = run(program("kubernetes/kubectl").arg("kustomize").arg(folder));
        objects(&text)
    };
    let mut component = kustomize(folder.path());
    for (name, object) in kustomize(&root().join("deploy")) {
        assert_eq!(component.remove(&name), Some(object), "{name}");
    }
    assert!(
        component
            .keys()
            .any(|name| name.starts_with("ConfigMap weft-mesh"))
    );
    assert_eq!(charted, component);
}

#[test]
fn what_a_value_turns_off_is_not_made() {
    let all = objects(&template(&[]));
    let gate = "MutatingWebhookConfiguration weft";
    for (value, off) in [
        (
            "webhook.enabled",
            &["ValidatingWebhookConfiguration weft", gate][..],
        ),
        (
            "networkPolicy.enabled",
            &["NetworkPolicy weft-control-plane"],
        ),
        (
            "resourceQuota.enabled",
            &["ResourceQuota weft-critical-pods"],
        ),
        (
            "controlPlane.podDisruptionBudget.enabled",
            &["PodDisruptionBudget weft-control-plane"],
        ),
    ] {
        let mut fewer = all.clone();
        for object in off {
            assert!(fewer.remove(*object).is_some(), "{object}");
        }
        let set = format!("--set={value}=false");
        assert_eq!(objects(&template(&[&set])), fewer, "{value}");
    }
}

#[test]
fn gate_and_sidecar_are_turned_off_one_by_one_and_with_both_their_configuration() {
    let webhooks = |more: &[&str]| {
        let objects = objects(&template(more));
        let object = objects.get("MutatingWebhookConfiguration weft")?;
        let webhooks = object["webhooks"].as_array().unwrap().iter();
        let names = webhooks.map(|webhook| webhook["name"].as_str().unwrap().to_owned());
        Some(names.collect::<Vec<_>>())
    };
    let gate = [
        "namespace.readiness-gate.weft.dev",
        "pod.readiness-gate.weft.dev",
    ];
    let sidecar = ["namespace.sidecar.weft.dev", "pod.sidecar.weft.dev"];
    let (no_gate, no_sidecar) = (
        "--set=webhook.readinessGate=false",
        "--set=sidecar.injection=false",
    );
    assert_eq!(webhooks(&[]).unwrap(), [gate, sidecar].concat());
    assert_eq!(webhooks(&[no_gate]).unwrap(), sidecar);
    assert_eq!(webhooks(&[no_sidecar]).unwrap(), gate);
    assert_eq!(webhooks(&[no_gate, no_sidecar]), None);
}

#[test]
fn sidecars_are_never_injected_where_the_mesh_itself_runs() {
    let text = run(helm_template(&["--set=namespace.create=true"]).arg("--namespace=elsewhere"));
    let objects = objects(&text);
    let webhooks = objects["MutatingWebhookConfiguration weft"]["webhooks"].clone();
    let webhooks = webhooks.as_array().unwrap().iter();
    let mut injecting = webhooks.filter(|webhook| {
        let name = webhook["name"].as_str().unwrap();
        name.ends_with("sidecar.weft.dev")
    });
    let selects = |webhook: &Value| {
        let expression = &webhook["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(expression["key"], "kubernetes.io/metadata.name");
        assert_eq!(expression["operator"], "NotIn");
        expression["values"] == serde_json::json!(["kube-system", "elsewhere"])
    };
    assert!(injecting.all(selects));
}

#[test]
fn values_of_sidecars_are_what_the_control_plane_is_told() {
    let set = "--set=sidecar.mode=sidecar,image.registry=r.example,image.tag=v7,\
               image.pullPolicy=Always";
    let objects = objects(&template(&[set]));
    let pod = &objects["Deployment weft-control-plane"]["spec"]["template"]["spec"];
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    for flag in [
        "--mode=sidecar",
        "--sidecar-image=r.example/weft/sidecar:v7",
        "--sidecar-image-pull-policy=Always",
    ] {
        assert!(
            arguments.iter().any(|one| one == flag),
            "{flag}: {arguments:?}"
        );
    }
}

#[test]
fn values_of_the_mesh_make_a_mesh_config() {
    let set = "--set=mesh.mtls.mode=strict,mesh.trustDomain=example.org";
    let config = &objects(&template(&[set]))["MeshConfig default"];
    assert_eq!(config["spec"]["mtls"]["mode"], "strict");
    assert_eq!(config["spec"]["trustDomain"], "example.org");
}

#[test]
fn values_of_rate_limits_make_what_the_control_plane_reads() {
    let set = "--set=rateLimits.config=domain: shop,rateLimits.redis.url=redis://r:6379/1";
    let objects = objects(&template(&[set]));
    let limits = &objects["ConfigMap weft-rate-limits"]["data"]["limits.yaml"];
    assert_eq!(limits, "domain: shop");
    let secret = &objects["Secret weft-redis"]["stringData"]["url"];
    assert_eq!(secret, "redis://r:6379/1");
    let pod = &objects["Deployment weft-control-plane"]["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["configMap"]["name"], "weft-rate-limits");
    let environment = pod["containers"][0]["env"].as_array().unwrap();
    let redis = environment.iter().find(|one| one["name"] == "WEFT_REDIS");
    let key = &redis.unwrap()["valueFrom"]["secretKeyRef"];
    assert_eq!(
        (&key["name"], &key["key"]),
        (&"weft-redis".into(), &"url".into())
    );
}

#[test]
fn a_value_that_is_none_is_refused() {
    for wrong in [
        "mesh.mtls.mode=Strict",
        "image.pullPolicy=Sometimes",
        "nodeAgent.drainDeadline=soon",
        "controlPlane.replica=3",
        "sidecar.mode=both",
        "rateLimits.redis.url=redis.shop:6379",
    ] {
        let output = helm_template(&[&format!("--set={wrong}")])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{wrong} was taken");
        assert!(error.contains("values don't meet"), "{wrong}: {error}");
    }
}

#[test]
fn a_chart_in_another_namespace_refers_to_that_one_only() {
    let text = run(helm_template(&["--set=namespace.create=true"]).arg("--namespace=elsewhere"));
    for (name, object) in objects(&text) {
        let text = object.to_string();
        assert!(!text.contains("weft-system"), "{name}: {text}");
    }
}

#[test]
fn an_update_of_the_agents_can_run_two_on_a_node_and_lets_the_old_one_drain() {
    let agents = &objects(&template(&[]))["DaemonSet weft-node-agent"];
    let pod = &agents["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array().unwrap();
    for container in containers {
        assert!(container.get("ports").is_none(), "{container}");
    }
    let arguments = containers[0]["args"].as_array().unwrap();
    let drain = arguments
        .iter()
        .find_map(|argument| argument.as_str()?.strip_prefix("--drain-deadline="))
        .unwrap();
    let drain: u64 = drain.trim_end_matches('s').parse().unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > drain);
}

#[test]
fn probes_have_a_listener_that_pods_can_not_use_up() {
    let objects = objects(&template(&[]));
    let container = |name: &str| {
        let pod = &objects[name]["spec"]["template"]["spec"];
        pod["containers"][0].clone()
    };
    let flag = |container: &Value, name: &str| {
        let arguments = container["args"].as_array().unwrap();
        let mut values = arguments
            .iter()
            .filter_map(|one| one.as_str()?.strip_prefix(name));
        values.next().map(str::to_owned).unwrap()
    };
    let agent = container("DaemonSet weft-node-agent");
    let control_plane = container("Deployment weft-control-plane");
    for probe in ["readinessProbe", "livenessProbe"] {
        let get = &agent[probe]["httpGet"];
        let host = get["host"].as_str().unwrap();
        assert_eq!(host, "127.0.0.1", "{probe}");
        let address = format!("{host}:{}", get["port"]);
        assert_eq!(flag(&agent, "--probes="), address, "{probe}");
        assert_eq!(control_plane[probe]["httpGet"]["port"], "probes", "{probe}");
    }
    let ports = control_plane["ports"].as_array().unwrap();
    let probes = ports.iter().find(|port| port["name"] == "probes").unwrap();
    let number = probes["containerPort"].to_string();
    assert!(flag(&control_plane, "--probes=").ends_with(&format!(":{number}")));
    // Only the pod's own node reaches what no rule names.
    let rules = &objects["NetworkPolicy weft-control-plane"]["spec"]["ingress"];
    let named = rules.as_array().unwrap().iter().flat_map(|rule| {
        let ports = rule["ports"].as_array().unwrap();
        ports.iter().map(|port| port["port"].to_string())
    });
    assert!(!named.collect::<Vec<_>>().contains(&number));
}

#[test]
fn replicas_of_the_control_plane_land_on_different_nodes_where_there_are_several() {
    let deployment = &objects(&template(&[]))["Deployment weft-control-plane"]["spec"];
    assert!(deployment["replicas"].as_u64().unwrap() > 1);
    let pod = &deployment["template"];
    let constraints = pod["spec"]["topologySpreadConstraints"].as_array().unwrap();
    let mut of_nodes = constraints
        .iter()
        .filter(|one| one["topologyKey"] == "kubernetes.io/hostname");
    let constraint = of_nodes.next().unwrap();
    assert_eq!(constraint["maxSkew"], 1);
    assert_eq!(constraint["whenUnsatisfiable"], "DoNotSchedule");
    // Nodes that can't take them don't count as free ones.
    assert_eq!(constraint["nodeTaintsPolicy"], "Honor");
    let labels = constraint["labelSelector"]["matchLabels"]
        .as_object()
        .unwrap();
    let of_pod = &pod["metadata"]["labels"];
    assert!(labels.iter().all(|(name, value)| of_pod[name] == *value));
}

#[test]
fn agents_have_no_permission_and_no_token_that_the_api_server_takes() {
    let objects = objects(&template(&[]));
    for (name, object) in &objects {
        let Some(subjects) = object["subjects"].as_array() else {
            continue;
        };
        let agent = |subject: &&Value| subject["name"] == "weft-node-agent";
        assert!(!subjects.iter().any(|subject| agent(&subject)), "{name}");
    }
    let pod = &objects["DaemonSet weft-node-agent"]["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let volumes = pod["volumes"].as_array().unwrap();
    let sources = volumes.iter().flat_map(|volume| {
        let sources = volume["projected"]["sources"].as_array();
        sources.cloned().unwrap_or_default()
    });
    let tokens = sources.filter_map(|source| source.get("serviceAccountToken").cloned());
    let audiences: Vec<_> = tokens.map(|token| token["audience"].clone()).collect();
    assert_eq!(audiences, ["weft-control-plane"]);
}

#[test]
#[cfg_attr(not(feature = "end-to-end"), ignore = "needs the programs built")]
fn the_programs_know_every_flag_that_they_are_given() {
    let objects = objects(&template(&[]));
    for (object, program) in [
        ("DaemonSet weft-node-agent", "weft-node-agent"),
        ("Deployment weft-control-plane", "weft-control-plane"),
    ] {
        let pod = &objects[object]["spec"]["template"]["spec"];
        let arguments = pod["containers"][0]["args"].as_array().unwrap();
        let mut arguments = arguments.iter().map(|text| text.as_str().unwrap());
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join(program);
        let help = run(Command::new(program).args([arguments.next().unwrap(), "--help"]));
        for argument in arguments {
            let flag = argument.split('=').next().unwrap();
            assert!(help.split_whitespace().any(|word| word == flag), "{flag}");
        }
    }
}

fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap()
}

fn template(more: &[&str]) -> String {
    run(&mut helm_template(more))
}

fn helm_template(more: &[&str]) -> Command {
    let mut command = program("helm/helm");
    command
        .args(["template", "weft"])
        .arg(root().join("deploy/helm/weft"))
        .args(["--namespace=weft-system", "--kube-version=1.36.0"])
        .args(more);
    command
}

static BINARIES: LazyLock<Binaries> = LazyLock::new(|| {
    let mut binaries = Binaries::api_server(root()).unwrap();
    binaries.add_kit(root(), Kit::Helm).unwrap();
    binaries
});

fn program(name: &str) -> Command {
    Command::new(BINARIES.path(name).unwrap())
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The documents by kind and name, without what Helm says about itself.
fn objects(text: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let documents = documents.into_iter().filter(|object| !object.is_null());
    let objects = documents.map(|mut object| {
        if let Some(labels) = object.pointer_mut("/metadata/labels") {
            let labels = labels.as_object_mut().unwrap();
            labels.retain(|label, _| {
                !label.starts_with("helm.sh/")
                    && label != "app.kubernetes.io/managed-by"
                    && label != "app.kubernetes.io/instance"
            });
        }
        let text = |path: &str| object.pointer(path).unwrap().as_str().unwrap().to_owned();
        (
            format!("{} {}", text("/kind"), text("/metadata/name")),
            object,
        )
    });
    let mut all = Objects::new();
    for (name, object) in objects {
        assert!(all.insert(name.clone(), object).is_none(), "{name} twice");
    }
    all
}
