//! `cargo xtask codegen`: Rust code from the protobuf schema, and the definitions of
//! Weft's own kinds from the control plane's Rust types.
//!
//! The output is checked in, so that a plain `cargo build` needs no protobuf compiler
//! and `kubectl apply -k deploy/` no Rust. Tests, here and beside the types, fail when
//! it doesn't match what it is made from.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, io};

use crate::workspace::{BuildError, Workspace};

/// Why no code could be generated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodegenError {
    /// The schema itself is wrong; the message names file and line.
    #[error("the protobuf schema does not compile: {0}")]
    Schema(#[from] protox::Error),
    /// The generated code could not be written.
    #[error("could not write {path}: {source}")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The control plane, which knows the kinds, can't be built or run.
    #[error("the definitions of Weft's kinds: {0}")]
    Kinds(#[from] BuildError),
}

const SCHEMA: [&str; 6] = [
    "envoy/service/ratelimit/v3/rls.proto",
    "weft/mesh/v1/certificates.proto",
    "weft/mesh/v1/discovery.proto",
    "weft/mesh/v1/external.proto",
    "weft/mesh/v1/route.proto",
    "weft/mesh/v1/traffic.proto",
];

/// Generates into `proto/src/generated` and `deploy/crds`.
///
/// # Errors
/// When the schema or the control plane doesn't compile, or the output can't be written.
pub(crate) fn run(workspace: &Workspace) -> Result<(), CodegenError> {
    let root = workspace.root();
    generate(root, &root.join("proto/src/generated"))?;
    let output = workspace
        .cargo(&[
            "run",
            "--quiet",
            "--package=weft-control-plane",
            "--",
            "crds",
        ])
        .stderr(Stdio::inherit())
        .output()
        .map_err(BuildError::from)?;
    if !output.status.success() {
        return Err(BuildError::Failed(output.status).into());
    }
    let path = root.join("deploy/crds/weft.dev.yaml");
    fs::write(&path, output.stdout).map_err(|source| CodegenError::Write { path, source })
}

fn generate(root: &Path, output: &Path) -> Result<(), CodegenError> {
    let failed = |source| CodegenError::Write {
        path: output.to_path_buf(),
        source,
    };
    fs::create_dir_all(output).map_err(failed)?;
    let descriptors = protox::compile(SCHEMA, [root.join("proto/proto")])?;
    tonic_prost_build::configure()
        .out_dir(output)
        .compile_fds(descriptors)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is checked in is what the schema says.
    #[test]
    fn the_checked_in_code_matches_the_schema() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let fresh = tempfile::tempdir().unwrap();
        generate(root, fresh.path()).unwrap();
        for entry in fs::read_dir(fresh.path()).unwrap() {
            let entry = entry.unwrap();
            let checked_in = root.join("proto/src/generated").join(entry.file_name());
            let (checked_in, fresh) = (
                fs::read_to_string(checked_in),
                fs::read_to_string(entry.path()),
            );
            assert!(
                checked_in.is_ok_and(|text| text == fresh.unwrap()),
                "proto/src/generated is not what the schema says: run `cargo xtask codegen`",
            );
        }
    }
}
