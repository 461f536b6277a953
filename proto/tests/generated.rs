//! The code in `src/generated` is what the schema in `proto/` says.
//!
//! `cargo xtask codegen` runs this test with `WEFT_CODEGEN=write`: it then writes the code
//! instead. It is a test so that nobody who only builds Weft compiles a protobuf compiler.

// Helpers of tests: what fails there fails the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

const SCHEMA: [&str; 6] = [
    "envoy/service/ratelimit/v3/rls.proto",
    "weft/mesh/v1/certificates.proto",
    "weft/mesh/v1/discovery.proto",
    "weft/mesh/v1/external.proto",
    "weft/mesh/v1/route.proto",
    "weft/mesh/v1/traffic.proto",
];

#[test]
fn the_checked_in_code_matches_the_schema() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = package.join("src/generated");
    if std::env::var_os("WEFT_CODEGEN").is_some_and(|what| what == "write") {
        return generate(package, &checked_in);
    }
    let fresh = tempfile::tempdir().unwrap();
    generate(package, fresh.path());
    let files = files_in(fresh.path());
    assert_eq!(
        files
            .iter()
            .map(|path| path.file_name())
            .collect::<Vec<_>>(),
        files_in(&checked_in)
            .iter()
            .map(|path| path.file_name())
            .collect::<Vec<_>>(),
        "proto/src/generated has other files than the schema makes: run `cargo xtask codegen`",
    );
    for path in files {
        let old = fs::read_to_string(checked_in.join(path.file_name().unwrap())).unwrap();
        assert!(
            old == fs::read_to_string(&path).unwrap(),
            "proto/src/generated is not what the schema says: run `cargo xtask codegen`",
        );
    }
}

fn generate(package: &Path, output: &Path) {
    let descriptors = protox::compile(SCHEMA, [package.join("proto")]).unwrap();
    tonic_prost_build::configure()
        .out_dir(output)
        .compile_fds(descriptors)
        .unwrap();
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
