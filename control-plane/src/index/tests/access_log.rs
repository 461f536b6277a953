//! Choices about the access log, of the mesh and of namespaces.

use super::*;

#[test]
fn a_namespace_overrides_the_meshs_access_log_choice_by_choice() {
    let said = |bed: &Bed| {
        let settings = &bed.workloads()[0].access_log;
        let filter = settings.filter.as_ref().map(|filter| filter.to_string());
        (settings.probes, filter, settings.lines_per_second)
    };
    let mut bed = bed(&[("pod.yaml", &pod("a", "10.0.0.1", ENABLED))]);
    assert_eq!(said(&bed), (None, None, None));
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n\
        spec: { accessLog: { probes: true, filter: status >= 500, linesPerSecond: 9 } }\n";
    bed.apply("config.yaml", config);
    let filter = |text: &str| Some(text.to_owned());
    assert_eq!(said(&bed), (Some(true), filter("status >= 500"), Some(9)));
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, annotations: { \
        weft.dev/access-log: '{\"filter\": \"status == 404\", \"probes\": false}' } }\n";
    bed.apply("namespace.yaml", namespace);
    assert_eq!(said(&bed), (Some(false), filter("status == 404"), Some(9)));
    for (good, bad) in [("status ==", "status ~"), ("\"probes\"", "\"probe\"")] {
        let error = parse(&namespace.replace(good, bad))
            .unwrap_err()
            .to_string();
        assert!(error.contains("weft.dev/access-log"), "{error}");
    }
    assert!(parse(&config.replace(">= 500", ">> 500")).is_err());
}
