//! The workspace and its Cargo.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The packages with the programs of a benchmark.
const MEASURED: [&str; 5] = [
    "--package=weft-control-plane",
    "--package=weft-node-agent",
    "--package=weft-sidecar",
    "--package=weft-tests",
    "--package=weft-lab",
];

/// Where the project is.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// Why a build has no result. Cargo's own output came before.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo can't be started.
    #[error("can't run cargo: {0}")]
    Start(#[from] io::Error),
    /// It ended badly.
    #[error("building failed ({0}); see above")]
    Failed(ExitStatus),
}

impl Workspace {
    /// The one that this program was built from.
    pub fn find() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().unwrap_or(package).to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => root.join(directory),
            None => root.join("target"),
        };
        Self { root, target }
    }

    /// Its top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's output folder.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where programs of the development profile are.
    pub fn programs(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// Where programs of the release profile are.
    pub fn release_programs(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Cargo, in the top folder.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(arguments);
        command
    }

    /// Runs Cargo to its end; `adapt` changes the command first.
    ///
    /// # Errors
    /// When it can't be run or fails.
    pub fn run_cargo(
        &self,
        arguments: &[&str],
        adapt: impl FnOnce(&mut Command),
    ) -> Result<(), BuildError> {
        let mut command = self.cargo(arguments);
        adapt(&mut command);
        let status = command.status()?;
        match status.success() {
            true => Ok(()),
            false => Err(BuildError::Failed(status)),
        }
    }

    /// Builds programs of the development profile: all, or these. Always with what the
    /// whole workspace wants of its dependencies, so that the tests find them compiled.
    ///
    /// # Errors
    /// When they don't build.
    pub fn build_programs(&self, programs: &[&str], features: &[&str]) -> Result<(), BuildError> {
        let mut arguments = vec!["build".to_owned(), "--workspace".to_owned()];
        match programs {
            [] => arguments.push("--bins".to_owned()),
            some => arguments.extend(some.iter().map(|name| format!("--bin={name}"))),
        }
        if !features.is_empty() {
            arguments.push(format!("--features={}", features.join(",")));
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.run_cargo(&arguments, |_| {})
    }

    /// Builds what benchmarks measure, and measure with: as it is published.
    ///
    /// # Errors
    /// When it doesn't build.
    pub fn build_release(&self) -> Result<(), BuildError> {
        self.run_cargo(
            &[&["build", "--release", "--bins"], &MEASURED[..]].concat(),
            |_| {},
        )
    }
}

/// What [`remap_paths`] is to say to rustc.
pub const REMAP_RUST: &str = "--remap-path-prefix=";
/// What it is to say to a compiler of C.
pub const REMAP_C: &str = "-ffile-prefix-map=";

/// Flags that keep the paths of this machine out of what a compiler makes, so that it is
/// the same wherever it is built.
pub fn remap_paths(flag: &str, separator: &str, workspace: &Path) -> OsString {
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
