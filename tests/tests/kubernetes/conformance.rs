//! The Gateway API's own tests of meshes. What `cargo xtask cluster conformance` has
//! written to tests/conformance is to stay true.

use std::fs;

use serde_json::Value;
use weft_tests::cluster::{Binaries, KubeProxy};
use weft_tests::conformance::{self, Suite};

use crate::bed::{Bed, workspace};

#[test]
fn every_test_of_the_gateway_api_for_meshes_passes_and_is_reported() {
    // Its CRDs are for a cluster that nobody else uses.
    let Some(bed) = Bed::up_with(KubeProxy::default()) else {
        return;
    };
    let mut binaries = Binaries::ensure(workspace()).unwrap();
    conformance::add_programs(&mut binaries, workspace()).unwrap();
    for image in conformance::images(&binaries, workspace()).unwrap() {
        bed.own.as_ref().unwrap().load_image(&image).unwrap();
    }
    conformance::install_api(&bed.kubectl, workspace()).unwrap();
    bed.install();
    let directory = tempfile::tempdir().unwrap();
    let suite = Suite {
        binaries: &binaries,
        kubeconfig: bed.kubectl.kubeconfig(),
        in_mesh: true,
        filter: None,
        keep: false,
        directory: directory.path(),
    };
    let tests = suite.run(|_| ()).unwrap();
    let shortcomings = suite.shortcomings(&tests);
    assert!(
        shortcomings.is_empty(),
        "{}\n{}",
        shortcomings.join("\n"),
        bed.agent_logs()
    );

    let version = conformance::version(workspace()).unwrap();
    let folder = workspace().join("tests/conformance");
    let checked_in = |extension: &str| {
        let path = folder.join(format!("{version}-weft.{extension}"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let advice = "run `cargo xtask cluster conformance`, see tests/conformance/README.md";
    assert_eq!(conformance::list(&tests), checked_in("txt"), "{advice}");
    let now = fs::read_to_string(suite.report()).unwrap();
    let before = checked_in("yaml");
    assert_eq!(comparable(&now), comparable(&before), "{advice}");
    assert!(!now.contains("unsupportedFeatures"), "{now}");
}

/// A report without what differs between two runs: its date, and the order of profiles.
fn comparable(report: &str) -> Value {
    let mut report: Value = serde_saphyr::from_str(report).unwrap();
    let fields = report.as_object_mut().unwrap();
    fields.remove("date").expect("a date");
    let profiles = fields.get_mut("profiles").and_then(Value::as_array_mut);
    profiles
        .unwrap()
        .sort_by_key(|profile| profile["name"].to_string());
    report
}
