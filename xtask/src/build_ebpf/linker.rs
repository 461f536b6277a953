//! bpf-linker: makes one object of the compiler's bitcode. It must understand the
//! bitcode of the compiler's LLVM, so it is built against that very library.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use weft_provision::folders;

use super::command::{execute, output, say};
use super::error::{BuildEbpfError, file};
use super::toolchain::{Compiler, Toolchain};
use super::versions::{LINKER as VERSION, LLVM_VERSIONS};

/// The linker for a compiler: one built earlier, else a new one, else one in PATH.
pub(super) fn find(toolchain: &Toolchain, target: &Path) -> Result<PathBuf, BuildEbpfError> {
    let compiler = toolchain.compiler();
    let major = compiler.llvm_major;
    if !LLVM_VERSIONS.contains(&major) {
        return Err(BuildEbpfError::Llvm {
            rustc: compiler.rustc.clone(),
            major,
        });
    }
    let library = match llvm_library(compiler) {
        Ok(library) => library,
        Err(searched) => {
            return in_path().ok_or(BuildEbpfError::NoLlvmLibrary { major, searched });
        }
    };
    let folder = tools_folder(target).join(folder_name(&library, major));
    let linker = folder.join("bin/bpf-linker");
    if output(&linker, &["--version"]).is_none() {
        build(&folder, &library, major, target)?;
    }
    Ok(linker)
}

/// Where built tools are kept: in the user's cache, so that every checkout has them.
fn tools_folder(target: &Path) -> PathBuf {
    folders::cache().unwrap_or_else(|| target.join("tools"))
}

/// Another LLVM library needs another linker, also of the same version.
fn folder_name(library: &Path, major: u32) -> OsString {
    let mut name = OsString::from(format!("bpf-linker-{VERSION}-llvm-{major}-"));
    name.push(library.file_name().unwrap_or_default());
    name
}

fn in_path() -> Option<PathBuf> {
    let linker = PathBuf::from("bpf-linker");
    output(&linker, &["--version"]).map(|_| linker)
}

/// The shared LLVM library that a compiler uses, or the folders where it should be.
fn llvm_library(compiler: &Compiler) -> Result<PathBuf, String> {
    let major = compiler.llvm_major;
    let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    let folders = [
        // A rustup toolchain brings its own.
        compiler.sysroot.join("lib"),
        PathBuf::from(multiarch),
        PathBuf::from(format!("/usr/lib/llvm-{major}/lib")),
        PathBuf::from("/usr/lib64"),
        PathBuf::from("/usr/lib"),
    ];
    let prefixes = [
        format!("libLLVM.so.{major}."),
        format!("libLLVM-{major}.so"),
    ];
    for folder in &folders {
        let Ok(files) = fs::read_dir(folder) else {
            continue;
        };
        let mut names: Vec<OsString> = files.flatten().map(|file| file.file_name()).collect();
        names.sort();
        for prefix in &prefixes {
            let is_library = |name: &&OsString| name.to_string_lossy().starts_with(prefix.as_str());
            if let Some(name) = names.iter().find(is_library) {
                return Ok(folder.join(name));
            }
        }
    }
    let searched: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    Err(searched.join(", "))
}

fn build(folder: &Path, library: &Path, major: u32, target: &Path) -> Result<(), BuildEbpfError> {
    say(&format!(
        "building bpf-linker {VERSION} against {} (once; one to three minutes)",
        library.display()
    ));
    let prefix = folder.join("llvm");
    let libraries = prefix.join("lib");
    fs::create_dir_all(&libraries).map_err(file("make the folder", &libraries))?;
    let link = libraries.join("libLLVM.so");
    if fs::read_link(&link).ok().as_deref() != Some(library) {
        let _ = fs::remove_file(&link);
        symlink(library, &link).map_err(file("make the link", &link))?;
    }
    let feature = format!("llvm-{major}");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        // No configuration of this workspace applies to a tool.
        .current_dir(folder)
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &feature])
        .arg("--root")
        .arg(folder)
        .arg("--target-dir")
        .arg(target.join("tools/bpf-linker-build"))
        .env("LLVM_PREFIX", &prefix)
        // Or cargo asks for the folder to be put there.
        .env("PATH", with_path(folder.join("bin")))
        .env("CARGO_ENCODED_RUSTFLAGS", run_path(library));
    // The toolchain stays the workspace's: elsewhere there may be none by default.
    for variable in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        command.env_remove(variable);
    }
    execute(&mut command, "building bpf-linker")
}

/// PATH with another folder at its end.
fn with_path(folder: PathBuf) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([folder]);
    env::join_paths(folders).unwrap_or(path)
}

/// A library that isn't in the system's own folders is found by the linker all the same.
fn run_path(library: &Path) -> OsString {
    let mut flags = OsString::from("-Clink-arg=-Wl,-rpath,");
    flags.push(library.parent().unwrap_or(library));
    flags
}
