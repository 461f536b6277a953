//! What the kernel, and this process, have to have: given where that may be done, else
//! said in one line.

// It says what it changes on this machine.
#![allow(clippy::print_stderr)]

use std::fs;
use std::io;
use std::mem::size_of_val;
use std::path::Path;

use nix::libc;
use nix::mount::MsFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::cgroup2;
use crate::packages::{ensure_programs, has_program};

/// Programs that the test bed calls, with the Debian package of each.
pub const PROGRAMS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("curl", "curl"), ("tcpdump", "tcpdump")];

/// Bits of capabilities(7) without which there are no namespaces.
const CAPABILITIES: [(&str, u32); 2] = [("CAP_SYS_ADMIN", 21), ("CAP_NET_ADMIN", 12)];

/// Installs what is missing for namespaces and eBPF, where this is root on a Debian or
/// one of its kind.
///
/// # Errors
/// With what is still missing, and how to get it.
pub fn ensure() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() {
        ensure_programs(&PROGRAMS).map_err(|error| error.to_string())?;
        mount_where_missing();
    }
    missing().map_or(Ok(()), Err)
}

/// The kernel file systems that capture needs: init systems mount them, but containers
/// and small images may lack them.
fn mount_where_missing() {
    if cgroup2::root().is_err() {
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

/// What this machine lacks to run a mesh under test, and how to get it, in one line;
/// `None` when nothing.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some(
            "root is missing: eBPF and network namespaces need it; run the same command with sudo"
                .to_owned(),
        );
    }
    let missing = |bits: u64| {
        CAPABILITIES
            .iter()
            .filter(move |(_, bit)| bits & 1 << bit == 0)
    };
    let missing: Vec<_> = missing(effective_capabilities())
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        return Some(format!(
            "this root lacks {}, which eBPF and network namespaces need: run outside the \
             container, or start it with --privileged",
            missing.join(" and ")
        ));
    }
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !has_program(program))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        let packages = missing.join(" ");
        return Some(format!(
            "programs are missing: apt-get install {packages} (or your distribution's packages of these names)"
        ));
    }
    if let Err(error) = create_ebpf_map() {
        return Some(format!(
            "this kernel lets no eBPF in ({error}): it has to be 5.14 or newer with \
             CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF, and no container's seccomp profile may \
             forbid bpf(2)"
        ));
    }
    cgroup2::root().err().map(|error| error.to_string())
}

/// `CapEff` of proc_pid_status(5).
fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// The least that bpf(2) can do: an array map of one element.
fn create_ebpf_map() -> io::Result<()> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const ARRAY: u32 = 2;
    // The first fields of `union bpf_attr`: type, key size, value size, elements.
    let attributes: [u32; 4] = [ARRAY, 4, 4, 1];
    // SAFETY: the kernel reads as many bytes as it is told from an array that outlives
    // the call, and takes what is missing as zero.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    let descriptor = i32::try_from(descriptor).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    nix::unistd::close(descriptor).map_err(io::Error::from)
}
