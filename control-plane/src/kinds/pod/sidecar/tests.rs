use serde_json::{Value, json};

use super::*;

#[test]
fn a_repository_is_an_image_without_its_version() {
    for (image, expected) in [
        ("weft/sidecar", "weft/sidecar"),
        ("weft/sidecar:0.1.0", "weft/sidecar"),
        ("r.example:5000/weft/sidecar", "r.example:5000/weft/sidecar"),
        (
            "r.example:5000/weft/sidecar:1",
            "r.example:5000/weft/sidecar",
        ),
        ("weft/sidecar@sha256:00", "weft/sidecar"),
        ("weft/sidecar:1@sha256:00", "weft/sidecar"),
    ] {
        assert_eq!(repository(image), expected, "{image}");
    }
}

/// A pod with a sidecar, as the webhook writes it.
fn injected() -> Value {
    json!({
        "initContainers": [
            { "name": "weft-init", "image": "weft/sidecar:1", "args": [
                "init", "--exclude-outbound-ports=3306", "--exclude-inbound-ports=9100,9101",
                "--exclude-inbound-cidrs=192.0.2.0/24",
            ] },
            { "name": "weft-proxy", "image": "weft/sidecar:1", "args": ["run"],
              "restartPolicy": "Always", "securityContext": { "runAsUser": 1337 },
              "env": environment("https://weft:15010"),
              "volumeMounts": [{ "name": "weft-credentials", "mountPath": CREDENTIALS }] },
        ],
        "containers": [{ "name": "web", "image": "web", "securityContext": bound() }],
        "volumes": [{ "name": "weft-credentials", "projected": { "sources": [
            { "serviceAccountToken": { "path": "token" } },
            { "configMap": {
                "name": "roots", "items": [{ "key": "ca.crt", "path": "ca.crt" }],
            } },
        ] } }],
    })
}

/// A security context with which a container stays the user that it says.
fn bound() -> Value {
    json!({
        "runAsUser": 0, "allowPrivilegeEscalation": false, "capabilities": { "drop": ["SETUID"] },
    })
}

fn environment(control_plane: &str) -> Value {
    json!([
        { "name": "WEFT_CONTROL_PLANE", "value": control_plane },
        { "name": "WEFT_ROOT_CERTIFICATES", "value": "/var/run/secrets/weft/ca.crt" },
        { "name": "WEFT_TOKEN_FILE", "value": "/var/run/secrets/weft/token" },
    ])
}

fn sidecar(spec: Value) -> PodSidecar {
    PodSidecar::of(Some("web"), &serde_json::from_value(spec).unwrap())
}

#[test]
fn what_the_webhook_writes_is_known_with_what_it_leaves_alone() {
    let PodSidecar::Injected(injected) = sidecar(injected()) else {
        panic!("not known");
    };
    assert_eq!(injected.source.repository, "weft/sidecar");
    assert_eq!(injected.source.control_plane, "https://weft:15010");
    assert_eq!(injected.source.root_config_map, "roots");
    assert_eq!(injected.exclusions.ports, [3306]);
    assert_eq!(injected.excluded_inbound_ports, [9100, 9101]);
    let block = "192.0.2.0/24".parse().unwrap();
    assert_eq!(injected.excluded_inbound_blocks, [block]);
    let none = json!({ "containers": [{ "name": "web" }] });
    assert_eq!(sidecar(none), PodSidecar::None);
}

#[test]
fn what_is_called_like_a_sidecar_and_is_another_is_not_taken_for_one() {
    let changes: [(&str, Value); 13] = [
        ("/initContainers/0/name", json!("first")),
        ("/initContainers/0/image", json!("other")),
        ("/initContainers/0/args", json!(["cleanup"])),
        (
            "/initContainers/0/args/1",
            json!("--netns=/run/netns/other"),
        ),
        ("/initContainers/0/command", json!(["true"])),
        (
            "/initContainers/0/env",
            json!([{ "name": "WEFT_EXCLUDE_OUTBOUND_CIDRS", "value": "0.0.0.0/0" }]),
        ),
        ("/initContainers/1/args", json!(["run", "--proxy-uid=0"])),
        ("/initContainers/1/command", json!(["sleep", "inf"])),
        ("/initContainers/1/env/0/name", json!("LD_PRELOAD")),
        ("/initContainers/1/securityContext/runAsUser", json!(0)),
        ("/containers/0/securityContext/privileged", json!(true)),
        (
            "/containers/0/securityContext/capabilities/add",
            json!(["NET_ADMIN"]),
        ),
        ("/containers/0/securityContext/runAsUser", json!(1337)),
    ];
    assert_is_none_of_ours(changes);
}

#[test]
fn what_leads_around_a_sidecar_in_its_pod_makes_it_another() {
    let changes = [
        (
            "/containers/0/securityContext/capabilities/add",
            json!(["cap_net_admin"]),
        ),
        ("/ephemeralContainers", json!([{ "name": "debug" }])),
        ("/dnsPolicy", json!("None")),
        ("/dnsPolicy", json!("Default")),
        ("/dnsConfig", json!({ "nameservers": ["192.0.2.1"] })),
        ("/dnsConfig", json!({ "searches": ["example.com"] })),
        ("/hostname", json!("weft")),
        ("/hostnameOverride", json!("WEFT")),
        ("/hostPID", json!(true)),
        (
            "/containers/0/securityContext/capabilities/add",
            json!(["SYS_PTRACE"]),
        ),
    ];
    assert_is_none_of_ours(changes);
}

#[test]
fn what_a_sidecars_own_containers_never_have_makes_it_another() {
    let changes = [
        (
            "/initContainers/0/volumeDevices",
            json!([{ "name": "own", "devicePath": "/etc/ld.so.preload" }]),
        ),
        (
            "/initContainers/0/securityContext",
            json!({ "privileged": true }),
        ),
        (
            "/initContainers/1/securityContext/capabilities",
            json!({ "add": ["NET_ADMIN"] }),
        ),
        (
            "/initContainers/1/lifecycle",
            json!({ "preStop": { "exec": {
                "command": [PROGRAM, "drain", "--admin=192.0.2.1:80"],
            } } }),
        ),
        (
            "/initContainers/0/volumeMounts",
            json!([{ "name": "own", "mountPath": "/usr/local/bin" }]),
        ),
        (
            "/initContainers/1/startupProbe",
            json!({ "exec": { "command": ["weft-sidecar", "cleanup"] } }),
        ),
        (
            "/initContainers/1/env",
            json!([
                { "name": "WEFT_CONTROL_PLANE", "value": "https://weft:15010" },
                { "name": "WEFT_CONTROL_PLANE", "value": "https://other:15010" },
            ]),
        ),
        (
            "/initContainers",
            json!([
                { "name": "first", "image": "first" },
                { "name": "weft-init", "image": "weft/sidecar:1", "args": ["init"] },
                { "name": "weft-proxy", "image": "weft/sidecar:1", "args": ["run"],
                  "securityContext": { "runAsUser": 1337 },
                  "env": environment("https://weft:15010") },
            ]),
        ),
    ];
    assert_is_none_of_ours(changes);
}

fn assert_is_none_of_ours(changes: impl IntoIterator<Item = (&'static str, Value)>) {
    for (path, value) in changes {
        let mut spec = injected();
        match spec.pointer_mut(path) {
            Some(field) => *field = value,
            None => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                spec.pointer_mut(parent).unwrap()[name] = value;
            }
        }
        let sidecar = sidecar(spec);
        assert!(
            matches!(sidecar, PodSidecar::ByHand(_)),
            "{path}: {sidecar:?}"
        );
    }
}

#[test]
fn a_container_that_may_become_the_proxys_user_leads_around_it() {
    let path = "/containers/0/securityContext";
    let field = |name: &str| format!("{path}/{name}");
    for (name, value) in [
        ("allowPrivilegeEscalation", json!(true)),
        ("allowPrivilegeEscalation", Value::Null),
        ("capabilities", Value::Null),
        ("capabilities", json!({ "drop": ["NET_RAW"] })),
        (
            "capabilities",
            json!({ "drop": ["ALL"], "add": ["cap_setuid"] }),
        ),
        ("runAsUser", Value::Null),
        ("runAsUser", json!(1337)),
    ] {
        let mut spec = injected();
        *spec.pointer_mut(&field(name)).unwrap() = value.clone();
        let PodSidecar::ByHand(problem) = sidecar(spec) else {
            panic!("{name}: {value}");
        };
        let expected = "spec.containers[0].securityContext";
        assert!(problem.field.starts_with(expected), "{problem}");
    }
    // The pod may say the user, and more may be dropped.
    let mut spec = injected();
    spec["securityContext"] = json!({ "runAsUser": 1000 });
    spec["containers"][0]["securityContext"] =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["all"] } });
    let found = sidecar(spec);
    assert!(matches!(found, PodSidecar::Injected(_)), "{found:?}");
    // Those of others' init containers count, too.
    let mut spec = injected();
    append(
        &mut spec,
        "",
        "initContainers",
        json!({ "name": "migrate" }),
    );
    assert!(matches!(sidecar(spec), PodSidecar::ByHand(_)));
}

/// Puts an item behind the last of a list, which may not be there yet.
fn append(spec: &mut Value, parent: &str, list: &str, item: Value) {
    let list = &mut spec.pointer_mut(parent).unwrap()[list];
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

#[test]
fn what_other_webhooks_add_to_every_container_leaves_a_sidecar_one() {
    let mut spec = injected();
    for container in ["/initContainers/0", "/initContainers/1"] {
        // AWS IRSA, OpenTelemetry, Datadog.
        for name in [
            "AWS_ROLE_ARN",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "OTEL_SERVICE_NAME",
            "JAVA_TOOL_OPTIONS",
            "DD_AGENT_HOST",
            "DD_ENTITY_ID",
        ] {
            let variable = json!({ "name": name, "value": "x" });
            append(&mut spec, container, "env", variable);
        }
        for path in [
            "/var/run/secrets/eks.amazonaws.com/serviceaccount",
            "/var/run/datadog",
            "/datadog-lib",
            "/otel-auto-instrumentation-java",
        ] {
            let mount = json!({ "name": "theirs", "mountPath": path });
            append(&mut spec, container, "volumeMounts", mount);
        }
    }
    let found = sidecar(spec);
    assert!(matches!(found, PodSidecar::Injected(_)), "{found:?}");
}

#[test]
fn what_changes_the_program_is_none_of_what_other_webhooks_add() {
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "GLIBC_TUNABLES",
        "SSL_CERT_FILE",
        "HTTPS_PROXY",
        "RES_OPTIONS",
        "WEFT_PROXY_UID",
        "WEFT_ADMIN",
        "PATH",
    ] {
        for container in ["/initContainers/0", "/initContainers/1"] {
            let mut spec = injected();
            let variable = json!({ "name": name, "value": "x" });
            append(&mut spec, container, "env", variable);
            let PodSidecar::ByHand(problem) = sidecar(spec) else {
                panic!("{name}");
            };
            assert!(problem.message.contains(name), "{problem}");
        }
    }
    for path in [
        "/usr/local/bin",
        "/etc",
        "/lib",
        "/",
        "/var/run",
        "/var/run/secrets",
        "/var/run/secrets/",
        "/var/run/secrets/weft/token",
        "/var/run/secrets//weft",
        "/var/run/secrets/./weft",
        "/var/run/secrets/../../../etc",
        "/datadog-lib/../etc",
    ] {
        let mut spec = injected();
        let mount = json!({ "name": "theirs", "mountPath": path });
        append(&mut spec, "/initContainers/1", "volumeMounts", mount);
        let found = sidecar(spec);
        assert!(matches!(found, PodSidecar::ByHand(_)), "{path}");
    }
}

#[test]
fn token_and_roots_are_those_of_the_sidecars_own_volume() {
    let volume = "/volumes/0";
    let sources = "/volumes/0/projected/sources";
    assert_is_none_of_ours([
        (
            volume,
            json!({ "name": "weft-credentials", "emptyDir": {} }),
        ),
        (volume, json!({ "name": "other", "emptyDir": {} })),
        (
            sources,
            json!([{ "secret": { "name": "mine" } }, { "secret": { "name": "mine" } }]),
        ),
        (
            "/volumes/0/projected/sources/1/configMap/items/0/key",
            json!("mine.crt"),
        ),
        (
            "/initContainers/1/env/1/value",
            json!("/var/run/secrets/mine/ca.crt"),
        ),
        (
            "/initContainers/1/env/2/value",
            json!("/var/run/secrets/mine/token"),
        ),
        (
            "/initContainers/1/volumeMounts/0/mountPath",
            json!("/var/run/secrets/elsewhere"),
        ),
        ("/initContainers/1/volumeMounts/0/name", json!("mine")),
        ("/initContainers/1/volumeMounts/0/subPath", json!("mine")),
    ]);
    // A list may not be longer, either.
    let mut spec = injected();
    let more = json!({ "secret": { "name": "mine" } });
    let projected = "/volumes/0/projected";
    append(&mut spec, projected, "sources", more);
    assert!(matches!(sidecar(spec), PodSidecar::ByHand(_)));
}

#[test]
fn hooks_probes_and_a_start_that_nobody_waits_for_are_not_taken_for_ours() {
    let run = json!({ "exec": { "command": ["/bin/sh", "-c", "true"] } });
    assert_is_none_of_ours([
        ("/initContainers/0/restartPolicy", json!("Always")),
        ("/initContainers/1/lifecycle", json!({ "preStop": run })),
        ("/initContainers/1/lifecycle", json!({ "postStart": run })),
        ("/initContainers/1/readinessProbe", run.clone()),
    ]);
}

#[test]
fn a_pod_that_is_called_as_its_control_plane_is_leads_its_sidecar_to_itself() {
    let host = "weft-control-plane.weft-system.svc";
    let found = |name: &str, hostname: Value| {
        let mut spec = injected();
        spec["initContainers"][1]["env"][0]["value"] = json!(format!("https://{host}:15010"));
        spec["hostname"] = hostname;
        PodSidecar::of(Some(name), &serde_json::from_value(spec).unwrap())
    };
    // Kubelet shortens names to 63 characters, and takes off what may not be last.
    let longer = format!("{host}{}x", "-".repeat(63 - host.len()));
    for name in [host, &longer] {
        let PodSidecar::ByHand(problem) = found(name, Value::Null) else {
            panic!("{name}");
        };
        assert_eq!(problem.field, "metadata.name");
        let other = found(name, json!("web"));
        assert!(matches!(other, PodSidecar::Injected(_)), "{other:?}");
    }
    for name in [
        "web",
        "weft-control-plane",
        "weft-control-plane.weft-system.svc2",
    ] {
        let other = found(name, Value::Null);
        assert!(
            matches!(other, PodSidecar::Injected(_)),
            "{name}: {other:?}"
        );
    }
}

#[test]
fn a_sidecar_is_told_of_its_pod_by_the_pods_own_fields() {
    let variable = |value: Value| {
        let mut spec = injected();
        append(&mut spec, "/initContainers/1", "env", value);
        sidecar(spec)
    };
    let of = |name: &str, path: &str| {
        let field = json!({ "fieldPath": path });
        variable(json!({ "name": name, "valueFrom": { "fieldRef": field } }))
    };
    for (name, path) in [
        ("HOST_IPS", "status.hostIPs"),
        ("HOST_IPS", "status.hostIP"),
    ] {
        let found = of(name, path);
        assert!(matches!(found, PodSidecar::Injected(_)), "{found:?}");
    }
    for name in [
        "WEFT_NODE",
        "POD_NAME",
        "POD_NAMESPACE",
        "POD_UID",
        "POD_IPS",
        "HOST_IPS",
    ] {
        let said = variable(json!({ "name": name, "value": "192.0.2.1" }));
        assert!(matches!(said, PodSidecar::ByHand(_)), "{name}");
        let other = of(name, "metadata.annotations['own']");
        assert!(matches!(other, PodSidecar::ByHand(_)), "{name}");
    }
}

#[test]
fn containers_that_run_as_the_proxy_are_named() {
    let spec = json!({
        "securityContext": { "runAsUser": 1337 },
        "initContainers": [{ "name": "weft-init" }, { "name": "migrate" }],
        "containers": [
            { "name": "web", "securityContext": { "runAsUser": 1000 } }, { "name": "helper" },
        ],
    });
    let spec = serde_json::from_value(spec).unwrap();
    let expected = ["spec.containers[1]", "spec.initContainers[1]"];
    assert_eq!(containers_of_proxy_user(&spec), expected);
}
