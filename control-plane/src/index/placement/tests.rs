use serde_json::{Value, json};

use super::*;
use crate::kinds::Object;
use crate::source::Origin;
use crate::source::manifest::parse;

/// `old` can't capture, is tainted and in zone `a`; `new` can; of `unknown` nobody has said.
const NODES: &str = "
apiVersion: v1
kind: Node
metadata: { name: old, labels: { weft.dev/ebpf: 'false', zone: a, cores: '8' } }
spec: { taints: [{ key: legacy, value: 'yes', effect: NoSchedule }] }
---
apiVersion: v1
kind: Node
metadata: { name: new, labels: { weft.dev/ebpf: 'true', zone: b } }
---
apiVersion: v1
kind: Node
metadata: { name: unknown, labels: { zone: c } }
";

fn namespace(level: &str) -> NamespaceObject {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\n\
         metadata: {{ name: shop, labels: {{ pod-security.kubernetes.io/enforce: {level} }} }}\n"
    );
    match parse(&text).unwrap().remove(0) {
        Object::Namespace(namespace) => namespace,
        other => panic!("{other:?}"),
    }
}

fn placed(nodes: &str, namespace: Option<&NamespaceObject>, spec: &Value) -> Placement {
    let mut objects = Objects::default();
    for object in parse(nodes).unwrap() {
        let key = object.key();
        objects.change(&key, |tables| tables.insert(&key, Origin::new(), object));
    }
    let spec = serde_json::from_value(spec.clone()).unwrap();
    placement(&objects, namespace, &spec)
}

/// It may land on a node that can't capture.
fn may_need(spec: &Value) -> bool {
    placed(NODES, None, spec) != Placement::Anywhere
}

/// A pod that tolerates the taint.
fn tolerant(more: Value) -> Value {
    let mut spec = json!({
        "containers": [], "tolerations": [{ "key": "legacy", "operator": "Exists" }],
    });
    let fields = spec.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    spec
}

fn affinity(terms: Value) -> Value {
    let required = json!({ "nodeSelectorTerms": terms });
    let node = json!({ "requiredDuringSchedulingIgnoredDuringExecution": required });
    tolerant(json!({ "affinity": { "nodeAffinity": node } }))
}

#[test]
fn a_pod_may_land_where_nothing_keeps_it_from_a_node_that_can_not_capture() {
    assert!(may_need(&tolerant(json!({}))));
    assert!(may_need(&tolerant(
        json!({ "nodeSelector": { "zone": "a" } })
    )));
    assert!(may_need(&json!({ "containers": [], "nodeName": "old" })));
    let equal = json!({ "containers": [], "tolerations": [{ "key": "legacy", "value": "yes" }] });
    assert!(may_need(&equal));
}

#[test]
fn a_pod_that_can_not_land_there_needs_nothing() {
    for spec in [
        json!({ "containers": [] }),
        json!({ "containers": [], "tolerations": [{ "key": "legacy", "value": "no" }] }),
        json!({ "containers": [], "nodeName": "new" }),
        tolerant(json!({ "nodeSelector": { "zone": "b" } })),
        tolerant(json!({ "nodeSelector": { "weft.dev/ebpf": "true" } })),
    ] {
        assert!(!may_need(&spec), "{spec}");
    }
}

#[test]
fn required_affinity_keeps_it_away_and_what_is_not_known_does_not() {
    let expression = |key: &str, operator: &str, values: Value| json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]);
    for (terms, expected) in [
        (expression("zone", "In", json!(["a", "b"])), true),
        (expression("zone", "In", json!(["b"])), false),
        (expression("zone", "NotIn", json!(["a"])), false),
        (expression("zone", "Exists", json!([])), true),
        (expression("zone", "DoesNotExist", json!([])), false),
        (expression("cores", "Gt", json!(["4"])), true),
        (expression("cores", "Lt", json!(["4"])), false),
        (expression("zone", "Like", json!(["b"])), true),
        (json!([{}]), false),
        (
            json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["new"] }] }]),
            false,
        ),
    ] {
        assert_eq!(may_need(&affinity(terms.clone())), expected, "{terms}");
    }
}

#[test]
fn a_runtime_with_a_kernel_of_its_own_needs_a_sidecar_on_any_node() {
    for (class, expected) in [
        ("gvisor", Placement::NeedsSidecar),
        ("kata-qemu", Placement::NeedsSidecar),
        ("crun", Placement::Anywhere),
        ("isolated", Placement::NeedsSidecar),
        ("fast", Placement::Anywhere),
    ] {
        let spec = json!({ "containers": [], "nodeName": "new", "runtimeClassName": class });
        let classes = [("isolated", "runsc"), ("fast", "crun")].map(|(name, handler)| {
            format!(
                "---\napiVersion: node.k8s.io/v1\nkind: RuntimeClass\n\
                 metadata: {{ name: {name} }}\nhandler: {handler}\n"
            )
        });
        let known = format!("{NODES}{}", classes.concat());
        assert_eq!(placed(&known, None, &spec), expected, "{class}");
    }
}

/// Nodes, one for each word: `yes`, `no`, or `cordoned-` before either.
fn nodes(words: &[&str]) -> String {
    let node = |(index, word): (usize, &&str)| {
        let can_capture = word.ends_with("yes");
        let taints = match word.starts_with("cordoned-") {
            true => "[{ key: node.kubernetes.io/unschedulable, effect: NoSchedule }]",
            false => "[]",
        };
        format!(
            "apiVersion: v1\nkind: Node\n\
             metadata: {{ name: n{index}, labels: {{ weft.dev/ebpf: '{can_capture}' }} }}\n\
             spec: {{ taints: {taints} }}\n"
        )
    };
    let nodes: Vec<_> = words.iter().enumerate().map(node).collect();
    nodes.join("---\n")
}

#[test]
fn one_node_that_can_not_capture_concerns_itself_alone() {
    let spec = json!({ "containers": [] });
    let placed = |words: &[&str]| placed(&nodes(words), None, &spec);
    assert_eq!(placed(&["yes", "yes", "no"]), Placement::CapableNodes);
    assert_eq!(placed(&["yes", "no"]), Placement::CapableNodes);
    // Nor does one that says it can draw all pods to itself.
    assert_eq!(placed(&["no", "no", "yes"]), Placement::NeedsSidecar);
    assert_eq!(placed(&["no", "no"]), Placement::NeedsSidecar);
    assert_eq!(placed(&["yes", "yes"]), Placement::Anywhere);
    assert_eq!(placed(&[]), Placement::Anywhere);
}

#[test]
fn nodes_that_take_no_pods_at_the_moment_have_no_vote() {
    let spec = json!({ "containers": [] });
    let placed = |words: &[&str]| placed(&nodes(words), None, &spec);
    // An upgrade that drains one after the other.
    let upgraded = ["cordoned-no", "cordoned-no", "no", "yes"];
    assert_eq!(placed(&upgraded), Placement::CapableNodes);
    let reverted = ["cordoned-yes", "cordoned-yes", "no"];
    assert_eq!(placed(&reverted), Placement::NeedsSidecar);
    assert_eq!(
        placed(&["cordoned-yes", "cordoned-no"]),
        Placement::CapableNodes
    );
}

#[test]
fn a_pod_of_one_node_is_decided_by_that_node_alone() {
    let field = json!({ "key": "metadata.name", "operator": "In", "values": ["n2"] });
    let of_daemon_set = affinity(json!([{ "matchFields": [field] }]));
    let nodes = nodes(&["yes", "yes", "no"]);
    let chosen = json!({ "containers": [], "nodeName": "n2" });
    for spec in [of_daemon_set, chosen] {
        assert_eq!(
            placed(&nodes, Some(&namespace("restricted")), &spec),
            Placement::NeedsSidecar
        );
    }
    let elsewhere = json!({ "containers": [], "nodeName": "n0" });
    assert_eq!(placed(&nodes, None, &elsewhere), Placement::Anywhere);
}

#[test]
fn no_sidecar_is_chosen_where_pod_security_would_refuse_it_and_an_agent_can_capture() {
    let spec = json!({ "containers": [] });
    let most = nodes(&["no", "no", "yes"]);
    for (level, expected) in [
        ("baseline", Placement::CapableNodes),
        ("restricted", Placement::CapableNodes),
        ("privileged", Placement::NeedsSidecar),
    ] {
        let namespace = namespace(level);
        assert_eq!(placed(&most, Some(&namespace), &spec), expected, "{level}");
    }
    // Without a proxy it would be outside of the mesh: it is refused, then.
    let all = nodes(&["no", "no"]);
    let namespace = namespace("restricted");
    assert_eq!(
        placed(&all, Some(&namespace), &spec),
        Placement::NeedsSidecar
    );
}

#[test]
fn a_pod_with_storage_goes_where_that_is() {
    let claim = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } });
    let spec = json!({ "containers": [], "volumes": [claim] });
    let nodes = nodes(&["yes", "yes", "no"]);
    assert_eq!(placed(&nodes, None, &spec), Placement::NeedsSidecar);
    let namespace = namespace("baseline");
    assert_eq!(
        placed(&nodes, Some(&namespace), &spec),
        Placement::CapableNodes
    );
}
