//! `cargo xtask codegen`: Rust code from the protobuf schema, and the definitions of
//! Weft's own kinds from the control plane's Rust types.
//!
//! The output is checked in, so that a plain `cargo build` needs no protobuf compiler
//! and `kubectl apply -k deploy/` no Rust. Tests, beside the schema and beside the types,
//! fail when it doesn't match what it is made from.

use std::path::PathBuf;
use std::process::Stdio;
use std::{fs, io};

use xtask::workspace::{BuildError, Workspace};

/// Why no code could be generated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodegenError {
    /// The schema doesn't compile, or what was made of it can't be written.
    #[error("the schema in proto/proto: {0}")]
    Schema(BuildError),
    /// The generated definitions could not be written.
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

/// Generates into `proto/src/generated` and `deploy/crds`.
///
/// # Errors
/// When the schema or the control plane doesn't compile, or the output can't be written.
pub(crate) fn run(workspace: &Workspace) -> Result<(), CodegenError> {
    // The test that compares them writes them instead.
    workspace
        .run_cargo(
            &[
                "test",
                "--quiet",
                "--package=weft-proto",
                "--test=generated",
            ],
            |cargo| {
                cargo.env("WEFT_CODEGEN", "write");
            },
        )
        .map_err(CodegenError::Schema)?;
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
    let path = workspace.root().join("deploy/crds/weft.dev.yaml");
    fs::write(&path, output.stdout).map_err(|source| CodegenError::Write { path, source })
}
