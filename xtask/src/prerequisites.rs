//! What the machine has to have: installed where that may be done, else said in one
//! line.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::MsFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use weft_tests::cgroup;
use weft_tests::{PROGRAMS, has_program, missing_prerequisites};

/// Installs what is missing for namespaces and eBPF, where this is root on a Debian or
/// one of its kind.
///
/// # Errors
/// With what is still missing, and how to get it.
pub(crate) fn ensure() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() {
        ensure_programs(&PROGRAMS)?;
        mount_where_missing();
    }
    missing_prerequisites().map_or(Ok(()), Err)
}

/// The kernel file systems that capture needs: init systems mount them, but containers
/// and small images may lack them.
fn mount_where_missing() {
    if cgroup::root().is_err() {
        mount("cgroup2", Path::new("/sys/fs/cgroup/unified"));
    }
    let bpffs = Path::new("/sys/fs/bpf");
    if !statfs(bpffs).is_ok_and(|statistics| statistics.filesystem_type() == BPF_FS_MAGIC) {
        mount("bpf", bpffs);
    }
}

/// What can't be mounted is missed by whoever needs it, and said then.
fn mount(kind: &str, at: &Path) {
    let _ = std::fs::create_dir_all(at);
    let mounted = nix::mount::mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>);
    match mounted {
        Ok(()) => eprintln!("mounted {kind} at {}", at.display()),
        Err(error) => eprintln!("can't mount {kind} at {}: {error}", at.display()),
    }
}

/// Installs the packages of programs that are missing, where that may be done.
///
/// # Errors
/// With what could not be installed, or what has to be.
pub(crate) fn ensure_programs(programs: &[(&str, &str)]) -> Result<(), String> {
    let missing = programs.iter().filter(|(program, _)| !has_program(program));
    let packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let may_install = nix::unistd::geteuid().is_root() && Path::new("/etc/debian_version").exists();
    if !may_install {
        return Err(format!(
            "install these packages first: {}",
            packages.join(" ")
        ));
    }
    eprintln!("installing {}", packages.join(" "));
    install(&packages)
}

fn install(packages: &[&str]) -> Result<(), String> {
    if apt_get("install", packages).is_ok() {
        return Ok(());
    }
    // The lists may be absent or old.
    apt_get("update", &[])?;
    apt_get("install", packages)
}

fn apt_get(action: &str, packages: &[&str]) -> Result<(), String> {
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
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "apt-get {action} {} failed: {status}",
            packages.join(" ")
        )),
        Err(error) => Err(format!("can't run apt-get: {error}")),
    }
}
