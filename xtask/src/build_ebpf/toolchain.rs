//! Compilers that can build for BPF.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::output;
use super::error::Unusable;
use super::versions::TARGET;

/// A compiler that can build the programs.
#[derive(Clone, Debug)]
pub(super) enum Toolchain {
    /// Has a compiled `core` for BPF, as Debian's `libstd-rust-web-dev-bpf` brings.
    Precompiled(Compiler),
    /// A rustup nightly with the sources of `core`.
    Nightly { name: String, compiler: Compiler },
}

/// What a compiler says about itself.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    pub(super) rustc: PathBuf,
    pub(super) sysroot: PathBuf,
    pub(super) release: String,
    pub(super) llvm_major: u32,
}

impl Compiler {
    fn ask(rustc: &Path) -> Option<Self> {
        let version = output(rustc, &["-vV"])?;
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
        let llvm = field("LLVM version: ")?;
        let sysroot = PathBuf::from(output(rustc, &["--print", "sysroot"])?.trim());
        Some(Self {
            rustc: rustc.to_owned(),
            sysroot,
            release: field("release: ")?.to_owned(),
            llvm_major: llvm.split('.').next()?.parse().ok()?,
        })
    }

    /// Whether it brings a compiled `core` for BPF.
    fn has_core(&self) -> bool {
        let folder = self.sysroot.join("lib/rustlib").join(TARGET).join("lib");
        let is_core = |name: &str| name.starts_with("libcore-") && name.ends_with(".rlib");
        fs::read_dir(folder).is_ok_and(|files| {
            files
                .flatten()
                .any(|file| is_core(&file.file_name().to_string_lossy()))
        })
    }

    /// Whether the sources of `core` are there.
    fn has_sources(&self) -> bool {
        self.sysroot
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
    }
}

impl Toolchain {
    pub(super) fn compiler(&self) -> &Compiler {
        match self {
            Self::Precompiled(compiler) | Self::Nightly { compiler, .. } => compiler,
        }
    }

    /// Cargo, with this compiler and nothing of what is set for the host's builds.
    pub(super) fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Precompiled(compiler) => {
                let mut command =
                    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                command
                    .env("RUSTC", &compiler.rustc)
                    .env_remove("RUSTUP_TOOLCHAIN");
                command
            }
            Self::Nightly { name, .. } => {
                let mut command = Command::new("rustup");
                command
                    .args(["run", name, "cargo"])
                    .env_remove("RUSTC")
                    .env_remove("CARGO");
                command.env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        };
        for variable in [
            "RUSTFLAGS",
            "RUSTDOC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "LD_LIBRARY_PATH",
        ] {
            command.env_remove(variable);
        }
        command
    }

    pub(super) fn build_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Precompiled(_) => &[],
            Self::Nightly { .. } => &["-Z", "build-std=core"],
        }
    }

    /// Whether it must be told to allow unstable features.
    pub(super) fn needs_bootstrap(&self) -> bool {
        matches!(self, Self::Precompiled(_))
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compiler {
            rustc,
            release,
            llvm_major,
            ..
        } = self.compiler();
        match self {
            Self::Precompiled(_) => {
                write!(
                    f,
                    "{} (rustc {release}, LLVM {llvm_major})",
                    rustc.display()
                )
            }
            Self::Nightly { name, .. } => {
                write!(f, "rustup's {name} (rustc {release}, LLVM {llvm_major})")
            }
        }
    }
}

/// The best of what is there.
pub(super) fn find() -> Result<Toolchain, Unusable> {
    // Debian's compiler may hide behind rustup's in PATH.
    let candidates = [PathBuf::from("/usr/bin/rustc"), PathBuf::from("rustc")];
    let precompiled = candidates.iter().filter_map(|rustc| Compiler::ask(rustc));
    if let Some(compiler) = precompiled.into_iter().find(Compiler::has_core) {
        return Ok(Toolchain::Precompiled(compiler));
    }
    let nightlies = nightlies();
    let usable = nightlies.iter().find_map(|name| {
        let compiler = Compiler::ask(Path::new(rustup_rustc(name)?.trim()))?;
        compiler.has_sources().then(|| Toolchain::Nightly {
            name: name.clone(),
            compiler,
        })
    });
    usable.ok_or_else(|| Unusable {
        nightly: nightlies.into_iter().next(),
    })
}

/// The nightly toolchains that rustup has.
fn nightlies() -> Vec<String> {
    let list = output(Path::new("rustup"), &["toolchain", "list"]).unwrap_or_default();
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| name.starts_with("nightly"))
        .map(str::to_owned)
        .collect()
}

fn rustup_rustc(toolchain: &str) -> Option<String> {
    output(
        Path::new("rustup"),
        &["which", "rustc", "--toolchain", toolchain],
    )
}
