use kube::api::DynamicObject;
use proptest::prelude::*;

use super::*;
use crate::cluster::Cluster;
use crate::inject::InjectedShape;
use crate::kinds::PodSidecar;
use crate::source::manifest::parse;
use crate::source::{Event, Origin};

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { weft.dev/mesh: enabled } }\n";

fn cluster(text: &str) -> Cluster {
    let cluster = Cluster::of_directory();
    let objects = parse(text).unwrap().into_iter();
    let events = objects.map(|object| Event::Applied(Origin::new(), object));
    cluster.apply_events(events.collect());
    cluster
}

fn pod(annotations: Value, more: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": "shop", "annotations": annotations },
        "spec": { "containers": [{ "name": "web" }], "serviceAccountName": "web" },
    });
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.extend(more.as_object().unwrap().clone());
    pod
}

fn injected_with(pod: &Value, namespace: &str, known: &str, options: &InjectionOptions) -> Value {
    let object: DynamicObject = serde_json::from_value(pod.clone()).unwrap();
    let cluster = cluster(known).with_sidecars(options.sidecars());
    let mut result = pod.clone();
    if let Some(admitted) = cluster.admitted_pod(namespace, &object, false) {
        for addition in injection(namespace, pod, &admitted, options).unwrap() {
            addition.apply(&mut result);
        }
    }
    result
}

fn options() -> InjectionOptions {
    InjectionOptions::with_mode(ProxyMode::Sidecar)
}

fn injected(pod: &Value) -> Value {
    injected_with(pod, "shop", SHOP, &options())
}

fn classic(pod: &Value, known: &str) -> Value {
    let options = InjectionOptions {
        shape: InjectedShape::Classic,
        ..options()
    };
    injected_with(pod, "shop", known, &options)
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let items = pod["spec"][list].as_array().into_iter().flatten();
    let names = items.map(|item| item["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn a_native_sidecar_starts_after_the_redirection_and_before_everything_else() {
    let first =
        json!({ "initContainers": [{ "name": "migrate" }], "volumes": [{ "name": "data" }] });
    let pod = injected(&pod(json!({}), first));
    assert_eq!(
        names(&pod, "initContainers"),
        ["weft-init", "weft-proxy", "migrate"]
    );
    assert_eq!(names(&pod, "containers"), ["web"]);
    assert_eq!(names(&pod, "volumes"), ["data", "weft-credentials"]);
    let proxy = &pod["spec"]["initContainers"][1];
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["startupProbe"]["httpGet"]["port"], 15021);
}

#[test]
fn a_classic_sidecar_holds_the_application_and_leaves_init_containers_alone() {
    let first = json!({ "initContainers": [{ "name": "migrate" }] });
    let given = pod(json!({}), first);
    let result = classic(&given, SHOP);
    assert_eq!(names(&result, "initContainers"), ["migrate", "weft-init"]);
    assert_eq!(names(&result, "containers"), ["weft-proxy", "web"]);
    let proxy = &result["spec"]["containers"][0];
    let command = &proxy["lifecycle"]["postStart"]["exec"]["command"];
    assert_eq!(command[1], "wait");
    let command = &proxy["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(command[1], "drain");
    assert_eq!(command[2], "--timeout=25s");
    assert!(proxy.get("restartPolicy").is_none() && proxy.get("startupProbe").is_none());
    let annotations = &result["metadata"]["annotations"];
    assert_eq!(
        annotations["kubectl.kubernetes.io/default-container"],
        "web"
    );
    assert_eq!(classic(&result, SHOP), result);
    // Where nothing may pass the proxy, these don't either.
    let confined = format!(
        "{SHOP}---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: default }}\n\
         spec: {{ egress: {{ mode: RegisteredOnly }} }}\n"
    );
    let result = classic(&given, &confined);
    assert_eq!(names(&result, "initContainers"), ["weft-init", "migrate"]);
}

#[test]
fn a_pod_that_may_land_on_an_older_kubelet_gets_a_classic_sidecar() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: { name: old, labels: { zone: a } }\n\
                status: { nodeInfo: { kubeletVersion: v1.28.15 } }\n";
    let known = format!("{SHOP}{node}");
    let is_native = |shape, zone: &str| {
        let options = InjectionOptions { shape, ..options() };
        let given = pod(json!({}), json!({ "nodeSelector": { "zone": zone } }));
        names(
            &injected_with(&given, "shop", &known, &options),
            "containers",
        ) == ["web"]
    };
    assert!(!is_native(InjectedShape::OfKubelets, "a"));
    assert!(is_native(InjectedShape::OfKubelets, "b"));
    assert!(
        is_native(InjectedShape::Native, "a"),
        "nobody's word is taken"
    );
    assert!(!is_native(InjectedShape::Classic, "b"));
}

#[test]
fn the_init_container_may_change_the_network_and_nothing_else_and_the_proxy_nothing() {
    let pod = injected(&pod(json!({}), json!({})));
    let [init, proxy] = [0, 1].map(|at| &pod["spec"]["initContainers"][at]["securityContext"]);
    let capabilities = json!({ "add": ["NET_ADMIN"], "drop": ["ALL"] });
    assert_eq!(init["capabilities"], capabilities);
    assert_eq!(proxy["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(
        (&proxy["runAsUser"], &proxy["runAsNonRoot"]),
        (&json!(1337), &json!(true))
    );
    for context in [init, proxy] {
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["privileged"], false);
    }
    let sources = &pod["spec"]["volumes"][0]["projected"]["sources"];
    assert_eq!(
        sources[0]["serviceAccountToken"]["audience"],
        "weft-control-plane"
    );
    assert_eq!(sources[1]["configMap"]["name"], "weft-root-certificates");
}

#[test]
fn by_tproxy_the_proxy_has_one_capability_more_once_it_is_its_own_user() {
    let pod = injected(&pod(
        json!({ "weft.dev/sidecar-capture": "tproxy" }),
        json!({}),
    ));
    let [init, proxy] = [0, 1].map(|at| &pod["spec"]["initContainers"][at]);
    assert_eq!(init["args"], json!(["init", "--capture=tproxy"]));
    let capabilities = json!({ "add": ["NET_RAW", "SETGID", "SETUID"], "drop": ["ALL"] });
    let rights = &proxy["securityContext"];
    assert_eq!(rights["capabilities"], capabilities);
    assert_eq!(
        (&rights["runAsUser"], &rights["runAsNonRoot"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(rights["allowPrivilegeEscalation"], false);
    let environment = proxy["env"].as_array().unwrap();
    assert!(environment.contains(&json!({ "name": "WEFT_CAPTURE", "value": "tproxy" })));
    // Where nobody may leave the mesh it is taken for anybody's.
    let spec = serde_json::from_value(pod["spec"].clone()).unwrap();
    assert!(matches!(
        PodSidecar::of(Some("web"), &spec),
        PodSidecar::ByHand(_)
    ));
}

#[test]
fn annotations_say_image_log_resources_and_what_is_left_alone() {
    let annotations = json!({
        "weft.dev/sidecar-image": "r.example/sidecar:2",
        "weft.dev/sidecar-log-level": "debug",
        "weft.dev/sidecar-cpu-limit": "5m",
        "weft.dev/sidecar-memory-request": "64Mi",
        "weft.dev/exclude-inbound-ports": "9100, 9101",
        "weft.dev/exclude-inbound-cidrs": "192.0.2.0/24, fd00::/8",
        "weft.dev/exclude-outbound-ports": "3306",
        "weft.dev/exclude-outbound-cidrs": "10.0.0.0/8,fd00::/8",
    });
    let pod = injected(&pod(
        annotations,
        json!({ "terminationGracePeriodSeconds": 300 }),
    ));
    let init = &pod["spec"]["initContainers"][0];
    let proxy = &pod["spec"]["initContainers"][1];
    let arguments = json!([
        "init",
        "--exclude-inbound-ports=9100,9101",
        "--exclude-inbound-cidrs=192.0.2.0/24,fd00::/8",
        "--exclude-outbound-ports=3306",
        "--exclude-outbound-cidrs=10.0.0.0/8,fd00::/8",
    ]);
    assert_eq!(init["args"], arguments);
    assert_eq!(proxy["image"], "r.example/sidecar:2");
    let resources = json!({ "requests": { "memory": "64Mi" }, "limits": { "cpu": "5m" } });
    assert_eq!(proxy["resources"], resources);
    let environment = proxy["env"].as_array().unwrap();
    let value = |name: &str| &environment.iter().find(|one| one["name"] == name).unwrap()["value"];
    assert_eq!(value("WEFT_LOG"), "debug");
    assert_eq!(value("WEFT_DRAIN_DEADLINE"), "295s");
    // Kubelet would run a hook while the application still works.
    assert!(proxy.get("lifecycle").is_none());
}

#[test]
fn what_is_injected_is_known_as_such_again() {
    for shape in [InjectedShape::Native, InjectedShape::Classic] {
        let options = InjectionOptions { shape, ..options() };
        let annotations = json!({ "weft.dev/exclude-outbound-ports": "3306" });
        let bound = json!({
            "runAsUser": 1000, "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
        });
        let containers = json!([{ "name": "web", "securityContext": bound }]);
        let given = pod(annotations, json!({ "containers": containers }));
        let pod = injected_with(&given, "shop", SHOP, &options);
        let spec = serde_json::from_value(pod["spec"].clone()).unwrap();
        let PodSidecar::Injected(known) = PodSidecar::of(Some("web"), &spec) else {
            panic!("not known: {pod}");
        };
        assert_eq!(known.source, options.source());
        assert_eq!(known.exclusions.ports, [3306]);
    }
}

#[test]
fn a_pod_with_a_part_of_a_sidecar_is_refused_by_the_name_of_that() {
    let refused = |more: Value| {
        let pod = pod(json!({}), more);
        let object: DynamicObject = serde_json::from_value(pod.clone()).unwrap();
        let admitted = cluster(SHOP).admitted_pod("shop", &object, false).unwrap();
        let error = injection("shop", &pod, &admitted, &options()).unwrap_err();
        error.field
    };
    let volume = json!({ "name": "weft-credentials", "emptyDir": {} });
    assert_eq!(
        refused(json!({ "volumes": [{ "name": "data" }, volume] })),
        "spec.volumes[1].name"
    );
    let init = json!([{ "name": "weft-init" }]);
    assert_eq!(
        refused(json!({ "initContainers": init })),
        "spec.initContainers[0].name"
    );
    assert_eq!(
        refused(json!({ "containers": init })),
        "spec.containers[0].name"
    );
}

#[test]
fn nothing_is_injected_where_it_must_not_be() {
    let enabled = json!({ "weft.dev/mesh": "enabled", "weft.dev/mode": "sidecar" });
    let plain = pod(enabled.clone(), json!({}));
    assert_ne!(injected_with(&plain, "elsewhere", "", &options()), plain);
    for namespace in ["kube-system", "weft-system"] {
        assert_eq!(
            injected_with(&plain, namespace, "", &options()),
            plain,
            "{namespace}"
        );
    }
    let mirror = json!({ "weft.dev/mesh": "enabled", "kubernetes.io/config.mirror": "1" });
    for outside in [
        pod(enabled.clone(), json!({ "hostNetwork": true })),
        pod(enabled.clone(), json!({ "serviceAccountName": "" })),
        pod(enabled.clone(), json!({ "os": { "name": "windows" } })),
        pod(enabled, json!({ "containers": [{ "name": "weft-proxy" }] })),
        pod(mirror, json!({})),
        pod(json!({ "weft.dev/mesh": "disabled" }), json!({})),
        pod(json!({ "weft.dev/mode": "node" }), json!({})),
    ] {
        assert_eq!(injected(&outside), outside);
    }
}

#[test]
fn the_mode_is_the_pods_then_its_namespaces_then_the_meshs() {
    let has_sidecar = |pod: &Value, namespace: &str, mode: ProxyMode| {
        let known = SHOP.replace("enabled }", &format!("enabled{namespace} }}"));
        let options = InjectionOptions::with_mode(mode);
        names(
            &injected_with(pod, "shop", &known, &options),
            "initContainers",
        )
        .len()
            == 2
    };
    let (asking, silent) = (
        pod(json!({ "weft.dev/mode": "sidecar" }), json!({})),
        pod(json!({}), json!({})),
    );
    let of_namespace = ", weft.dev/mode: sidecar";
    assert!(has_sidecar(
        &asking,
        ", weft.dev/mode: node",
        ProxyMode::Node
    ));
    assert!(has_sidecar(&silent, of_namespace, ProxyMode::Node));
    assert!(has_sidecar(&silent, "", ProxyMode::Sidecar));
    assert!(!has_sidecar(&silent, "", ProxyMode::Node));
    assert!(
        !has_sidecar(&silent, "", ProxyMode::Auto),
        "no node is known that can't capture"
    );
}

fn node(name: &str, can_capture: bool) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\n\
         metadata: {{ name: {name}, labels: {{ weft.dev/ebpf: '{can_capture}' }} }}\n"
    )
}

#[test]
fn auto_is_a_sidecar_where_the_pod_lands_on_nodes_that_can_not_capture() {
    let known = format!("{SHOP}{}", node("old", false));
    let options = InjectionOptions::with_mode(ProxyMode::Auto);
    let injected = |more: Value| injected_with(&pod(json!({}), more), "shop", &known, &options);
    assert_eq!(names(&injected(json!({})), "initContainers").len(), 2);
    let capable = json!({ "nodeSelector": { "weft.dev/ebpf": "true" } });
    assert!(names(&injected(capable), "initContainers").is_empty());
}

#[test]
fn auto_keeps_a_pod_off_a_node_that_can_not_capture_where_another_one_can() {
    let known = format!("{SHOP}{}{}", node("old", false), node("new", true));
    let options = InjectionOptions::with_mode(ProxyMode::Auto);
    let injected = |pod: &Value| injected_with(pod, "shop", &known, &options);
    let given = pod(json!({}), json!({}));
    let result = injected(&given);
    assert!(names(&result, "initContainers").is_empty());
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let terms = &result.pointer(required).unwrap()["nodeSelectorTerms"];
    let ours = json!({ "key": "weft.dev/ebpf", "operator": "NotIn", "values": ["false"] });
    assert_eq!(*terms, json!([{ "matchExpressions": [ours] }]));
    assert_eq!(injected(&result), result, "once is enough");
    // Who chose a proxy, or brings one along, lands anywhere.
    for chosen in [
        pod(json!({ "weft.dev/mode": "node" }), json!({})),
        pod(json!({ "weft.dev/mode": "sidecar" }), json!({})),
        pod(
            json!({}),
            json!({ "containers": [{ "name": "weft-proxy" }] }),
        ),
    ] {
        assert!(injected(&chosen).pointer(required).is_none(), "{chosen}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z/.-]{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "[a-z]{1,4}",
        Just("containers".to_owned()),
        Just("initContainers".to_owned()),
        Just("volumes".to_owned()),
        Just("name".to_owned()),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_pod_says_is_kept_and_nothing_is_injected_twice(unknown in any_json()) {
        for shape in [InjectedShape::Native, InjectedShape::Classic] {
            let options = InjectionOptions { shape, ..options() };
            let mut given = pod(json!({}), json!({}));
            given["spec"]["somethingNew"] = unknown.clone();
            given["spec"]["containers"][0]["somethingNew"] = unknown.clone();
            let once = injected_with(&given, "shop", SHOP, &options);
            prop_assert_eq!(&once["spec"]["somethingNew"], &unknown);
            let at = usize::from(shape == InjectedShape::Classic);
            prop_assert_eq!(&once["spec"]["containers"][at]["somethingNew"], &unknown);
            let twice = injected_with(&once, "shop", SHOP, &options);
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn no_pod_panics(spec in any_json()) {
        let mut given = pod(json!({}), json!({}));
        given["spec"] = spec;
        injected_with(&given, "shop", SHOP, &options());
    }
}
