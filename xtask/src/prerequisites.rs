//! What the machine has to have: installed where that may be done, else said in one
//! line.

use std::path::Path;

use nix::mount::MsFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use weft_tests::cgroup;
use weft_tests::packages::ensure_programs;
use weft_tests::{PROGRAMS, missing_prerequisites};

/// Installs what is missing for namespaces and eBPF, where this is root on a Debian or
/// one of its kind.
///
/// # Errors
/// With what is still missing, and how to get it.
pub(crate) fn ensure() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() {
        ensure_programs(&PROGRAMS).map_err(|error| error.to_string())?;
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
