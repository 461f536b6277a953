//! What keeps a pod off nodes that can't capture.

use serde_json::{Value, json};

use super::addition::Addition;
use crate::kinds::EBPF;

/// The additions to a pod by which no scheduler has it land on a node that can't capture. One that no
/// agent has said anything of yet stays: else no cluster autoscaler would make any.
pub(super) fn capable_nodes(pod: &Value) -> Vec<Addition> {
    let keep_off = json!({ "key": EBPF, "operator": "NotIn", "values": ["false"] });
    let mut path = "/spec".to_owned();
    let mut rest = json!({ "nodeSelectorTerms": [{ "matchExpressions": [keep_off] }] });
    let fields = [
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    for (depth, field) in fields.iter().enumerate() {
        path = format!("{path}/{field}");
        if !pod.pointer(&path).is_some_and(Value::is_object) {
            for inner in fields.iter().skip(depth + 1).rev() {
                rest = json!({ (*inner): rest });
            }
            return vec![Addition::new(path, rest)];
        }
    }
    // Of several terms one is enough: each has to say so.
    let terms = format!("{path}/nodeSelectorTerms");
    let listed = pod.pointer(&terms).and_then(Value::as_array);
    let listed = listed.into_iter().flatten().enumerate();
    let listed = listed.filter(|(_, term)| !is_empty(term));
    let additions = listed.map(|(index, _)| {
        let expressions = format!("{terms}/{index}/matchExpressions");
        Addition::item(pod, &expressions, None, keep_off.clone())
    });
    additions.collect()
}

/// It matches no node, and would match some with an expression.
fn is_empty(term: &Value) -> bool {
    let has_items = |list: &str| {
        let list = term.get(list).and_then(Value::as_array);
        list.is_some_and(|list| !list.is_empty())
    };
    !has_items("matchExpressions") && !has_items("matchFields")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_off(mut pod: Value) -> Value {
        for addition in capable_nodes(&pod) {
            addition.apply(&mut pod);
        }
        pod["spec"]["affinity"].clone()
    }

    #[test]
    fn a_pod_without_affinity_gets_a_term_and_every_term_of_another_an_expression() {
        let ours = json!({ "key": "weft.dev/ebpf", "operator": "NotIn", "values": ["false"] });
        let required = |terms: Value| json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
        let expected = json!({ "nodeAffinity": required(json!([{ "matchExpressions": [ours] }])) });
        for none in [
            json!({ "spec": {} }),
            json!({ "spec": { "affinity": null } }),
            json!({ "spec": { "affinity": {} } }),
            json!({ "spec": { "affinity": { "nodeAffinity": {} } } }),
        ] {
            assert_eq!(kept_off(none.clone()), expected, "{none}");
        }
        let zone = json!({ "key": "zone", "operator": "In", "values": ["a"] });
        let field = json!({ "key": "metadata.name", "operator": "In", "values": ["n"] });
        let terms = json!([{ "matchExpressions": [zone] }, {}, { "matchFields": [field] }]);
        let pod_affinity = json!({ "preferredDuringSchedulingIgnoredDuringExecution": [] });
        let affinity =
            json!({ "nodeAffinity": required(terms), "podAffinity": pod_affinity.clone() });
        let terms = json!([
            { "matchExpressions": [zone, ours] },
            {},
            { "matchFields": [field], "matchExpressions": [ours] },
        ]);
        assert_eq!(
            kept_off(json!({ "spec": { "affinity": affinity } })),
            json!({ "nodeAffinity": required(terms), "podAffinity": pod_affinity })
        );
    }
}
