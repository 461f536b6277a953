//! `cargo xtask images`: the container images of what runs on Kubernetes.
//!
//! The same sources, compiler and libraries make the same bytes: paths of this machine
//! are not in the programs, and the lab, which packs them, takes every time from
//! `SOURCE_DATE_EPOCH`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use xtask::options::{BuildEbpf, Images};
use xtask::steps::Steps;
use xtask::workspace::{BuildError, REMAP_C, REMAP_RUST, Workspace, remap_paths};

use crate::build_ebpf::{self, BuildEbpfError};
use crate::lab::{self, COMPILING, COMPILING_EBPF};

/// Why there are no images.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    /// The kernel programs, which the agent embeds.
    #[error(transparent)]
    Ebpf(#[from] BuildEbpfError),
    /// The programs.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Packing.
    #[error("packing the images failed ({0}); see above")]
    Pack(ExitStatus),
    /// Packing can't be started.
    #[error("can't pack the images: {0}")]
    Start(#[from] io::Error),
}

/// Builds the programs and packs them; prints file, name and id of each image.
///
/// # Errors
/// When they can't be built, packed or written.
pub(crate) fn run(workspace: &Workspace, options: &Images) -> Result<(), ImagesError> {
    let mut steps = Steps::new(3);
    steps.next(COMPILING_EBPF);
    build_ebpf::run(&BuildEbpf::default())?;
    steps.next(COMPILING);
    let programs = match options.dev {
        true => {
            workspace.build_programs(&[], &[])?;
            workspace.programs()
        }
        false => {
            // What packs needs no optimisation.
            workspace.build_programs(&[lab::NAME], &[])?;
            build_release(workspace)?
        }
    };
    steps.next("packing");
    pack(
        workspace,
        &programs,
        options.output.as_deref(),
        &options.tag,
    )?;
    steps.end();
    Ok(())
}

/// Packs what tests on a cluster load: the programs of the development profile, which are
/// built.
///
/// # Errors
/// When they can't be packed or written.
pub(crate) fn pack_development(workspace: &Workspace) -> Result<(), ImagesError> {
    pack(
        workspace,
        &workspace.programs(),
        None,
        env!("CARGO_PKG_VERSION"),
    )
}

fn pack(
    workspace: &Workspace,
    programs: &Path,
    output: Option<&Path>,
    tag: &str,
) -> Result<(), ImagesError> {
    let output = output.map_or_else(|| workspace.target().join("images"), Path::to_path_buf);
    let status = Command::new(workspace.programs().join(lab::NAME))
        .args(["images", "--tag", tag, "--programs"])
        .arg(programs)
        .arg("--output")
        .arg(output)
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(ImagesError::Pack(status)),
    }
}

/// Builds the programs as they are published, in a folder of their own: the flags differ
/// from those of other builds, which would be lost. Returns where they are.
fn build_release(workspace: &Workspace) -> Result<PathBuf, BuildError> {
    let target = workspace.target().join("images-build");
    workspace.run_cargo(&["build", "--release", "--locked", "--bins"], |cargo| {
        cargo
            .args([
                "--package=weft-control-plane",
                "--package=weft-node-agent",
                "--package=weft-sidecar",
            ])
            // What a backtrace needs stays; line tables would be half of the image.
            .args(["--config", "profile.release.strip=\"debuginfo\""])
            .env("CARGO_TARGET_DIR", &target)
            // What the agent embeds is where the other builds have it.
            .env("WEFT_EBPF_OBJECT", workspace.target().join("ebpf/weft-ebpf"))
            .env("CARGO_ENCODED_RUSTFLAGS", remap_paths(REMAP_RUST, "\x1f", workspace.root()))
            // Libraries in C, which name their files in messages.
            .env("CFLAGS", remap_paths(REMAP_C, " ", workspace.root()))
            // What these say of __DATE__. Always the same: cargo wouldn't build them again.
            .env("SOURCE_DATE_EPOCH", "0");
    })?;
    Ok(target.join("release"))
}
