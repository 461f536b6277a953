//! The mutating webhooks of namespaces that the MeshConfig's floor enrols, whatever their labels say.
//! Those that are installed select namespaces by their label; for these, the same are added with
//! selectors of the floor's.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::kinds::EnrolledNamespaces;

/// The beginning of the names of webhooks that select namespaces by their label.
const BY_LABEL: &str = "namespace.";
/// The beginning of those of ours.
const OURS: &str = "floor-";
/// The label by which namespaces opt in.
const MESH: &str = "weft.dev/mesh";

/// The strategic merge patch after which a configuration has such webhooks for these namespaces, and no
/// others; none when it has.
pub(super) fn patch(
    configuration: &DynamicObject,
    enrolled: &[EnrolledNamespaces],
    bundle: &str,
) -> Option<Value> {
    let webhooks = configuration.data.get("webhooks").and_then(Value::as_array);
    let webhooks = webhooks.map(Vec::as_slice).unwrap_or_default();
    let templates = webhooks.iter().filter_map(|webhook| {
        let name = name(webhook).strip_prefix(BY_LABEL)?;
        Some((name, webhook))
    });
    let wanted = templates.flat_map(|(name, template)| {
        let ours = |enrolled| webhook(name, template, enrolled, bundle);
        enrolled.iter().map(ours)
    });
    let wanted: Vec<_> = wanted.collect();
    let is_ours = |webhook: &&Value| name(webhook).starts_with(OURS);
    let is_known = |one: &Value| wanted.iter().any(|wanted| name(wanted) == name(one));
    let surplus = webhooks.iter().filter(is_ours).filter(|one| !is_known(one));
    let surplus = surplus.map(|webhook| json!({ "$patch": "delete", "name": webhook["name"] }));
    let missing = wanted.iter().filter(|wanted| !webhooks.contains(wanted));
    let changes: Vec<_> = missing.cloned().chain(surplus).collect();
    (!changes.is_empty()).then(|| json!({ "webhooks": changes }))
}

fn name(webhook: &Value) -> &str {
    webhook["name"].as_str().unwrap_or_default()
}

/// The same as one that is installed, for namespaces that the floor enrols and the label doesn't.
fn webhook(name: &str, template: &Value, enrolled: &EnrolledNamespaces, bundle: &str) -> Value {
    let mut webhook = template.clone();
    webhook["name"] = json!(format!("{OURS}{}.{name}", enrolled.by));
    webhook["clientConfig"]["caBundle"] = json!(bundle);
    let listed = template["namespaceSelector"]["matchExpressions"].as_array();
    let mut expressions = listed.cloned().unwrap_or_default();
    expressions.extend(enrolled.expressions.iter().map(|one| json!(one)));
    expressions.push(json!({ "key": MESH, "operator": "NotIn", "values": ["enabled"] }));
    webhook["namespaceSelector"] = json!({ "matchExpressions": expressions });
    webhook
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::source::manifest::parse;
    use crate::source::{Event, Origin};

    fn enrolled(spec: &str) -> Vec<EnrolledNamespaces> {
        let text = format!(
            "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: default }}\n\
             spec: {{ floor: {{ enrolledNamespaces: {spec} }} }}\n"
        );
        let cluster = Cluster::of_directory();
        let config = parse(&text).unwrap().remove(0);
        cluster.apply_events(vec![Event::Applied(Origin::new(), config)]);
        cluster.enrolled_by_floor()
    }

    fn configuration(webhooks: &[Value]) -> DynamicObject {
        let object = json!({ "metadata": { "name": "weft" }, "webhooks": webhooks });
        serde_json::from_value(object).unwrap()
    }

    fn installed() -> Vec<Value> {
        let excluded =
            json!({ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"] });
        let labelled = json!({ "weft.dev/mesh": "enabled" });
        vec![
            json!({
                "name": "namespace.sidecar.weft.dev", "failurePolicy": "Fail",
                "clientConfig": { "caBundle": "old", "service": { "path": "/inject-in-mesh" } },
                "namespaceSelector": { "matchLabels": labelled, "matchExpressions": [excluded] },
            }),
            json!({ "name": "pod.sidecar.weft.dev", "clientConfig": {} }),
        ]
    }

    #[test]
    fn namespaces_of_the_floor_have_the_webhooks_of_those_with_the_label() {
        let spec = "{ names: [shop, bank], selector: { matchLabels: { team: a } } }";
        let enrolled = enrolled(spec);
        let webhooks = installed();
        let patch = patch(&configuration(&webhooks), &enrolled, "new").unwrap();
        let [by_name, by_labels] = patch["webhooks"].as_array().unwrap().as_slice() else {
            panic!("{patch}");
        };
        assert_eq!(by_name["name"], "floor-names.sidecar.weft.dev");
        assert_eq!(by_labels["name"], "floor-labels.sidecar.weft.dev");
        for ours in [by_name, by_labels] {
            assert_eq!(ours["failurePolicy"], "Fail");
            assert_eq!(ours["clientConfig"]["caBundle"], "new");
            assert_eq!(ours["clientConfig"]["service"]["path"], "/inject-in-mesh");
        }
        let excluded = &webhooks[0]["namespaceSelector"]["matchExpressions"][0];
        let other = json!({ "key": "weft.dev/mesh", "operator": "NotIn", "values": ["enabled"] });
        let with = |key: &str, values: Value| {
            let floor = json!({ "key": key, "operator": "In", "values": values });
            json!({ "matchExpressions": [excluded, floor, other] })
        };
        let names = with("kubernetes.io/metadata.name", json!(["bank", "shop"]));
        assert_eq!(by_name["namespaceSelector"], names);
        assert_eq!(by_labels["namespaceSelector"], with("team", json!(["a"])));
    }

    #[test]
    fn what_is_there_is_left_alone_and_goes_when_the_floor_enrols_nobody() {
        let enrolled = enrolled("{ names: [shop] }");
        let mut webhooks = installed();
        let first = patch(&configuration(&webhooks), &enrolled, "new").unwrap();
        webhooks.extend(first["webhooks"].as_array().unwrap().clone());
        let now = configuration(&webhooks);
        assert_eq!(patch(&now, &enrolled, "new"), None);
        let expected =
            json!({ "webhooks": [{ "$patch": "delete", "name": "floor-names.sidecar.weft.dev" }] });
        assert_eq!(patch(&now, &[], "new"), Some(expected));
        assert_eq!(patch(&configuration(&installed()), &[], "new"), None);
    }
}
