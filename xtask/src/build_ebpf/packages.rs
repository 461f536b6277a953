//! Installing the compiler from Debian's packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::command::{execute, output, say};
use super::error::{BuildEbpfError, file};
use super::versions::PACKAGES;

/// Whether packages can be installed here: as root, on a Debian or one of its kind.
pub(super) fn may_install() -> bool {
    nix::unistd::geteuid().is_root()
        && Path::new("/etc/debian_version").exists()
        && output(Path::new("apt-get"), &["--version"]).is_some()
}

/// Installs the compiler. The lists of packages are fetched when there are none, or when
/// what they name is no longer there.
pub(super) fn install(tools: &Path) -> Result<(), BuildEbpfError> {
    say(&format!(
        "installing {} (about 120 MB from this machine's Debian mirror)",
        PACKAGES.join(", ")
    ));
    let archives = tools.join("apt-archives");
    let partial = archives.join("partial");
    fs::create_dir_all(&partial).map_err(file("make the folder", &partial))?;
    let known = output(Path::new("apt-cache"), &["show", PACKAGES[0], PACKAGES[1]]).is_some();
    if !known || install_once(&archives).is_err() {
        execute(apt_get(&archives).arg("update"), "apt-get update")?;
        install_once(&archives)?;
    }
    // Only in the way from here on.
    fs::remove_dir_all(&archives).map_err(file("remove the folder", &archives))
}

fn install_once(archives: &Path) -> Result<(), BuildEbpfError> {
    let mut command = apt_get(archives);
    command
        .args(["install", "--yes", "--no-install-recommends"])
        .args(PACKAGES);
    execute(&mut command, "apt-get install")
}

fn apt_get(archives: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Another apt-get that runs meanwhile empties the usual folder.
        .arg(format!("-oDir::Cache::archives={}/", archives.display()))
        .arg("-oDPkg::Lock::Timeout=300")
        .arg("--quiet");
    command
}
