//! Nodes that a pod may land on which can't capture. Only what surely keeps it from a node counts:
//! a pod with a sidecar that it didn't need is in the mesh, one without that it did is not.

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use super::objects::Objects;
use crate::kinds::NodeObject;

/// Parts of the names of runtime classes whose pods have a kernel of their own, where no node's
/// programs see their connections.
const SANDBOXES: [&str; 3] = ["gvisor", "runsc", "kata"];
/// The beginning of the names of taints that come and go with the state of a node.
const PASSING: &str = "node.kubernetes.io/";
/// The field of a node that terms may name.
const NAME: &str = "metadata.name";

/// The pod may land where no agent can capture it.
pub(super) fn may_need_sidecar(objects: &Objects, spec: &PodSpec) -> bool {
    let runtime = spec.runtime_class_name.as_deref().unwrap_or_default();
    let runtime = runtime.to_ascii_lowercase();
    if SANDBOXES.iter().any(|name| runtime.contains(name)) {
        return true;
    }
    let nodes = objects.tables.all::<NodeObject>().map(|(_, node)| node);
    let mut incapable = nodes.filter(|node| node.can_capture == Some(false));
    incapable.any(|node| may_land(spec, node))
}

fn may_land(spec: &PodSpec, node: &NodeObject) -> bool {
    let chosen = spec.node_name.as_deref().filter(|name| !name.is_empty());
    if let Some(chosen) = chosen {
        return *chosen == *node.node.name;
    }
    let mut selector = spec.node_selector.iter().flatten();
    let is_selected = selector.all(|(name, value)| node.labels.get(name) == Some(value));
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut taints = node.taints.iter().filter(|taint| keeps_away(taint));
    let is_tolerated = taints.all(|taint| tolerations.iter().any(|one| tolerates(one, taint)));
    is_selected && is_tolerated && has_affinity(spec, node)
}

fn keeps_away(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !taint.key.starts_with(PASSING)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    let is_meant =
        (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key);
    let exists = match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        // Also what a newer version may have.
        _ => true,
    };
    is_meant && exists
}

/// Of several terms one is enough.
fn has_affinity(spec: &PodSpec, node: &NodeObject) -> bool {
    let affinity = spec.affinity.as_ref();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        let required = &affinity.required_during_scheduling_ignored_during_execution;
        required.as_ref()
    });
    required.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter();
        terms.any(|term| matches(term, node))
    })
}

fn matches(term: &NodeSelectorTerm, node: &NodeObject) -> bool {
    let mut expressions = term.match_expressions.iter().flatten();
    let mut fields = term.match_fields.iter().flatten();
    let of_label = |requirement: &NodeSelectorRequirement| {
        let label = node.labels.get(&requirement.key);
        meets(requirement, label.map(String::as_str))
    };
    let of_field = |requirement: &NodeSelectorRequirement| {
        requirement.key != NAME || meets(requirement, Some(&node.node.name))
    };
    expressions.all(of_label) && fields.all(of_field)
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = || value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value < bound),
        // One of a newer version doesn't surely keep it away.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::KindObject;
    use crate::kinds::Object;
    use crate::source::Origin;
    use crate::source::manifest::parse;

    /// `old` can't capture, is tainted and in zone `a`; `new` can; of `unknown` nobody has said.
    const NODES: &str = "
apiVersion: v1
kind: Node
metadata: { name: old, labels: { weft.dev/ebpf: 'false', zone: a, cores: '8' } }
spec: { taints: [{ key: legacy, value: 'yes', effect: NoSchedule }, { key: node.kubernetes.io/unschedulable, effect: NoSchedule }] }
---
apiVersion: v1
kind: Node
metadata: { name: new, labels: { weft.dev/ebpf: 'true', zone: b } }
---
apiVersion: v1
kind: Node
metadata: { name: unknown, labels: { zone: c } }
";

    fn may_need(spec: Value) -> bool {
        let mut objects = Objects::default();
        for object in parse(NODES).unwrap() {
            let Object::Node(node) = &object else {
                panic!("no node");
            };
            assert_eq!(node.kind(), NodeObject::KIND);
            let key = object.key();
            objects.change(&key, |tables| tables.insert(&key, Origin::new(), object));
        }
        may_need_sidecar(&objects, &serde_json::from_value(spec).unwrap())
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
    fn a_pod_needs_a_sidecar_where_nothing_keeps_it_from_a_node_that_can_not_capture() {
        assert!(may_need(tolerant(json!({}))));
        assert!(may_need(tolerant(
            json!({ "nodeSelector": { "zone": "a" } })
        )));
        assert!(may_need(json!({ "containers": [], "nodeName": "old" })));
        let equal =
            json!({ "containers": [], "tolerations": [{ "key": "legacy", "value": "yes" }] });
        assert!(may_need(equal));
    }

    #[test]
    fn a_pod_that_can_not_land_there_needs_none() {
        for spec in [
            json!({ "containers": [] }),
            json!({ "containers": [], "tolerations": [{ "key": "legacy", "value": "no" }] }),
            json!({ "containers": [], "nodeName": "new" }),
            tolerant(json!({ "nodeSelector": { "zone": "b" } })),
            tolerant(json!({ "nodeSelector": { "weft.dev/ebpf": "true" } })),
        ] {
            assert!(!may_need(spec.clone()), "{spec}");
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
            (
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["new"] }] }]),
                false,
            ),
        ] {
            assert_eq!(may_need(affinity(terms.clone())), expected, "{terms}");
        }
    }

    #[test]
    fn a_runtime_with_a_kernel_of_its_own_needs_one_on_any_node() {
        for (class, expected) in [("gvisor", true), ("kata-qemu", true), ("crun", false)] {
            let spec = json!({ "containers": [], "nodeName": "new", "runtimeClassName": class });
            assert_eq!(may_need(spec), expected, "{class}");
        }
    }
}
