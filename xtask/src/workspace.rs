//! The workspace and its Cargo.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The packages with the programs of a mesh.
const MESH: [&str; 3] = [
    "--package=weft-control-plane",
    "--package=weft-node-agent",
    "--package=weft-tests",
];

/// Where the project is.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// Why a build has no result. Cargo's own output came before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// Cargo can't be started.
    #[error("can't run cargo: {0}")]
    Start(#[from] io::Error),
    /// It ended badly.
    #[error("building failed ({0}); see above")]
    Failed(ExitStatus),
}

impl Workspace {
    /// The one that this program was built from.
    pub(crate) fn find() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().unwrap_or(package).to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => root.join(directory),
            None => root.join("target"),
        };
        Self { root, target }
    }

    /// Its top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's output folder.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where programs of the development profile are.
    pub(crate) fn programs(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// Cargo, in the top folder.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(arguments);
        command
    }

    /// Where programs of the release profile are.
    pub(crate) fn release_programs(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Builds the programs of a mesh.
    ///
    /// # Errors
    /// When they don't build.
    pub(crate) fn build_programs(&self) -> Result<(), BuildError> {
        self.build(&MESH, &[])
    }

    /// Builds the programs of the test bed alone.
    ///
    /// # Errors
    /// When they don't build.
    pub(crate) fn build_test_programs(&self) -> Result<(), BuildError> {
        self.build(&["--package=weft-tests"], &[])
    }

    /// Builds the programs of a mesh for measuring.
    ///
    /// # Errors
    /// When they don't build.
    pub(crate) fn build_release(&self) -> Result<(), BuildError> {
        self.build(&MESH, &["--release"])
    }

    fn build(&self, packages: &[&str], more: &[&str]) -> Result<(), BuildError> {
        let arguments = [&["build", "--bins"], packages, more].concat();
        let status = self.cargo(&arguments).status()?;
        if status.success() {
            Ok(())
        } else {
            Err(BuildError::Failed(status))
        }
    }
}

/// What [`remap_paths`] is to say to rustc.
pub(crate) const REMAP_RUST: &str = "--remap-path-prefix=";
/// What it is to say to a compiler of C.
pub(crate) const REMAP_C: &str = "-ffile-prefix-map=";

/// Flags that keep the paths of this machine out of what a compiler makes, so that it is
/// the same wherever it is built.
pub(crate) fn remap_paths(flag: &str, separator: &str, workspace: &Path) -> OsString {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let mut flags = OsString::from(flag);
    flags.push(workspace);
    flags.push("=/weft");
    if let Some(cargo) = cargo.or_else(home) {
        flags.push(separator);
        flags.push(flag);
        flags.push(cargo);
        flags.push("=/cargo");
    }
    flags
}
