//! Programs of the distribution: installed where that may be done, else named.

// It says what it is doing: installing takes a while.
#![allow(clippy::print_stderr)]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::ProvisionError;

/// Whether a program of this name is in PATH or where system programs are.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|directory| directory.join(name).is_file())
}

/// Installs the packages of programs that are missing, where this is root on a Debian
/// or one of its kind. Each program comes with its package.
///
/// # Errors
/// With what could not be installed, or what has to be.
pub fn ensure_programs(programs: &[(&str, &str)]) -> Result<(), ProvisionError> {
    let missing = programs.iter().filter(|(program, _)| !has_program(program));
    ensure(missing.map(|(_, package)| *package).collect())
}

/// The same for libraries: each file, whole, with its package.
///
/// # Errors
/// With what could not be installed, or what has to be.
pub fn ensure_files(files: &[(&str, &str)]) -> Result<(), ProvisionError> {
    let missing = files.iter().filter(|(file, _)| !Path::new(file).exists());
    ensure(missing.map(|(_, package)| *package).collect())
}

fn ensure(mut packages: Vec<&str>) -> Result<(), ProvisionError> {
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    let may_install = nix::unistd::geteuid().is_root() && Path::new("/etc/debian_version").exists();
    if !may_install {
        return Err(ProvisionError::Missing(format!(
            "install these packages first: {names}"
        )));
    }
    eprintln!("installing {names}");
    if apt_get("install", &packages).is_ok() {
        return Ok(());
    }
    // The lists may be absent or old.
    apt_get("update", &[])?;
    apt_get("install", &packages)
}

fn apt_get(action: &str, packages: &[&str]) -> Result<(), ProvisionError> {
    let status = Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args([
            "--quiet",
            "--yes",
            "-oDPkg::Lock::Timeout=300",
            "--no-install-recommends",
            action,
        ])
        .args(packages)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(ProvisionError::system("run apt-get"))?;
    if status.success() {
        return Ok(());
    }
    Err(ProvisionError::Program {
        command: format!("apt-get {action} {}", packages.join(" ")),
        status: status.to_string(),
        hint: "see above".to_owned(),
    })
}
