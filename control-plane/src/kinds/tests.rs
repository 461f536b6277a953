//! What holds for every kind of the list.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::yaml;

/// An object of a cluster, as the mesh reads it.
pub(crate) fn read_live<T: KindObject>(kind: Kind, object: Value) -> Read<T> {
    T::read(kind, typed(object).unwrap(), Form::Live)
}

/// The documents of a file of `deploy/`.
fn deployed(file: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("deploy").join(file)).unwrap();
    serde_saphyr::from_multiple_with_options(&text, yaml::options()).unwrap()
}

/// Some rule is about the kind: by its group and its plural.
fn has_rule<'a>(mut rules: impl Iterator<Item = &'a Value>, kind: Kind) -> bool {
    let has = |list: &Value, name: &str| {
        let mut list = list.as_array().unwrap().iter();
        list.any(|item| item == name || item == "*")
    };
    rules.any(|rule| has(&rule["apiGroups"], kind.group) && has(&rule["resources"], kind.plural))
}

/// The smallest object of a kind that is of use to the mesh, but for its header.
fn smallest(kind: Kind) -> Value {
    let reference = json!({ "group": "", "kind": "Service", "name": "web" });
    let spec = match kind.name {
        "Namespace" | "Node" | "ServiceAccount" | "MeshConfig" | "AuthorizationPolicy" => json!({}),
        "Pod" => {
            return json!({
                "spec": { "nodeName": "node-1", "containers": [] },
                "status": { "podIPs": [{ "ip": "10.244.1.3" }] },
            });
        }
        "Service" => json!({ "clusterIP": "10.96.0.1" }),
        "NetworkPolicy" => json!({ "podSelector": {} }),
        "RuntimeClass" => return json!({ "handler": "runsc" }),
        "EndpointSlice" => return json!({ "addressType": "IPv4", "endpoints": [] }),
        "TrafficPolicy" => json!({ "targetRef": { "kind": "Service", "name": "web" } }),
        "ExternalService" => json!({
            "hosts": ["pay.example"], "ports": [{ "number": 443, "protocol": "TLS" }],
        }),
        "ReferenceGrant" => json!({
            "from": [{
                "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop",
            }],
            "to": [reference],
        }),
        "HTTPRoute" | "GRPCRoute" => json!({ "parentRefs": [reference] }),
        "TLSRoute" | "TCPRoute" => json!({ "parentRefs": [reference], "rules": [{}] }),
        other => panic!("how does the smallest {other} look?"),
    };
    json!({ "spec": spec })
}

fn document(kind: Kind, version: &str) -> Value {
    let mut document = smallest(kind);
    document["kind"] = json!(kind.name);
    document["apiVersion"] = match kind.group {
        "" => json!(version),
        group => json!(format!("{group}/{version}")),
    };
    let labels = json!({ "kubernetes.io/service-name": "web" });
    document["metadata"] = match kind.name {
        "Namespace" | "Node" | "RuntimeClass" | "MeshConfig" => json!({ "name": "default" }),
        _ => json!({ "name": "web", "namespace": "shop", "labels": labels }),
    };
    document
}

#[test]
fn every_kind_is_read_from_a_manifest_in_each_of_its_versions() {
    for kind in all() {
        assert_eq!(find(kind.group, kind.name), Some(kind));
        for version in kind.versions {
            let read = read_manifest(kind, document(kind, version)).unwrap();
            let is_read = kind != ServiceAccountObject::KIND;
            assert_eq!(read.is_some(), is_read, "{kind} {version}");
            if let Some(object) = read {
                assert_eq!(object.key().kind, kind);
            }
        }
    }
}

#[test]
fn every_kind_is_read_from_a_cluster_and_admitted() {
    for kind in all() {
        for resource in kind.resources() {
            assert_eq!(
                (&*resource.kind, &*resource.plural),
                (kind.name, kind.plural)
            );
            let object = serde_json::from_value(document(kind, &resource.version)).unwrap();
            for form in [Form::Live, Form::Admission] {
                assert_eq!(problems(kind, &object, form), [], "{kind} {form:?}");
            }
        }
    }
}

/// An object that can't be read (any more) is deleted by the name in its metadata.
#[test]
fn an_object_is_called_by_what_its_metadata_says() {
    struct Names(Value);

    impl KindVisitor for Names {
        type Output = ();

        fn visit<T: ListedKind>(self, kind: Kind) {
            let metadata = typed(self.0["metadata"].clone()).unwrap();
            let object = read_live::<T>(kind, self.0).object.unwrap();
            assert_eq!(object.kind(), kind);
            assert_eq!(object.name(), T::name_of(&metadata), "{kind}");
        }
    }

    for kind in all() {
        visit(kind, Names(document(kind, kind.versions[0]))).unwrap();
    }
}

#[test]
fn no_kind_is_listed_twice() {
    let kinds: std::collections::BTreeSet<_> = all().collect();
    assert_eq!(kinds.len(), all().count());
}

#[test]
fn the_checked_in_definitions_are_those_of_the_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let path = root.unwrap().join("deploy/crds/weft.dev.yaml");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == definitions().unwrap(),
        "deploy/crds is not what control-plane/src/kinds says: run `cargo xtask codegen`"
    );
}

#[test]
fn each_of_wefts_own_kinds_is_defined_as_it_is_asked_for() {
    let definitions = deployed("crds/weft.dev.yaml");
    let own: Vec<_> = all()
        .filter(|kind| kind.provider == Provider::Weft)
        .collect();
    assert_eq!(definitions.len(), own.len());
    for kind in own {
        let mut definitions = definitions.iter().map(|definition| &definition["spec"]);
        let spec = definitions.find(|spec| spec["names"]["kind"] == kind.name);
        let spec = spec.unwrap_or_else(|| panic!("deploy/crds has no {kind}"));
        assert_eq!(spec["names"]["plural"], kind.plural);
        assert_eq!(spec["group"], kind.group);
        let versions = spec["versions"].as_array().unwrap().iter();
        let versions: Vec<_> = versions.map(|version| &version["name"]).collect();
        assert_eq!(versions, kind.versions);
    }
}

#[test]
fn the_control_plane_may_watch_every_kind() {
    let documents = deployed("base/control-plane-rbac.yaml");
    let rules = documents
        .iter()
        .filter(|role| role["kind"] == "ClusterRole");
    let rules: Vec<_> = rules
        .flat_map(|role| role["rules"].as_array().unwrap())
        .collect();
    for kind in all() {
        let watched = rules.iter().copied().filter(|rule| {
            let verbs = rule["verbs"].as_array().unwrap();
            ["list", "watch"]
                .iter()
                .all(|verb| verbs.contains(&json!(verb)))
        });
        assert!(
            has_rule(watched, kind),
            "no ClusterRole lets it watch {}",
            kind.plural
        );
    }
}

#[test]
fn the_webhook_is_asked_of_every_kind_that_people_write_for_the_mesh() {
    let documents = deployed("base/webhook.yaml");
    let webhooks = documents
        .iter()
        .flat_map(|document| document["webhooks"].as_array().unwrap());
    let rules: Vec<_> = webhooks
        .flat_map(|one| one["rules"].as_array().unwrap())
        .collect();
    // The API server itself refuses all that can be wrong with a ReferenceGrant.
    let asked = all().filter(|kind| *kind != ReferenceGrantObject::KIND);
    for kind in asked.filter(|kind| kind.is_optional()) {
        assert!(
            has_rule(rules.iter().copied(), kind),
            "the webhook isn't asked of {}",
            kind.plural
        );
    }
}
