//! Blocks of `yaml`.

use serde_json::Value;

use crate::blocks::blocks;

/// Fields of a kustomization that documents may use
/// (<https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/>).
const KUSTOMIZATION: [&str; 5] = ["components", "images", "namespace", "patches", "resources"];

#[test]
fn every_manifest_is_taken_by_what_it_is_for() {
    for block in blocks("yaml") {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&block.text)
            .unwrap_or_else(|error| panic!("{block}: {error}"));
        let has = |field: &str| documents.iter().all(|document| !document[field].is_null());
        if has("apiVersion") && has("kind") {
            // The same parser as that of a directory of manifests; it counts only what it reads.
            let count = weft_control_plane::check_manifest(&block.text);
            let count = count.unwrap_or_else(|error| panic!("{block}: {error}"));
            assert_eq!(
                count,
                documents.len(),
                "{block}: the mesh reads not all of it"
            );
        } else if has("domain") {
            let count = weft_control_plane::check_limits(&block.text);
            assert_eq!(count, Ok(documents.len()), "{block}");
        } else if has("resources") {
            let fields = documents[0].as_object().unwrap().keys();
            let unknown: Vec<_> = fields
                .filter(|name| !KUSTOMIZATION.contains(&name.as_str()))
                .collect();
            assert!(
                unknown.is_empty(),
                "{block}: no field of a kustomization: {unknown:?}"
            );
        } else if has("scrape_configs") {
            let job = &documents[0]["scrape_configs"][0];
            for relabeling in relabelings_of_agents() {
                let all = job["relabel_configs"].as_array().unwrap();
                assert!(all.contains(&relabeling), "{block}: lacks {relabeling}");
            }
        } else {
            panic!(
                "{block}: nothing is known about it: add a rule to tests/tests/documents/manifests.rs"
            );
        }
    }
}

/// Those of the PodMonitor that is deployed, in Prometheus' own words.
fn relabelings_of_agents() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/monitoring/monitors.yaml"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let text = text
        .replace("sourceLabels", "source_labels")
        .replace("targetLabel", "target_label");
    let monitors: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let endpoint = &monitors[0]["spec"]["podMetricsEndpoints"][0];
    endpoint["relabelings"].as_array().unwrap().clone()
}
