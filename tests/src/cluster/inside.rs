//! A node from the inside: what `weft-test-app node` does. The first process leaves
//! this machine's mounts, processes, name and cgroups behind; the second is process 1
//! of the node and starts what runs there.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::wait;
use nix::unistd::sethostname;
use serde::{Deserialize, Serialize};

use super::hierarchies::Hierarchy;
use crate::error::{Error, Result};
use crate::wait::wait_until;

/// The node's own directory, as it sees it.
pub(super) const DIRECTORY: &str = "/run/weft-node";
/// Where containerd listens.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// What a node may write to without this machine seeing it.
pub(super) const OVERLAYS: [&str; 3] = ["etc", "opt", "var"];
/// What an overlay can't hold: containerd puts overlays of its own there.
pub(super) const STORES: [&str; 2] = ["containerd", "kubelet"];
const CONTAINERD_WITHIN: Duration = Duration::from_secs(60);

/// What process 1 of a node has to know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct NodeFile {
    pub(super) name: String,
    /// Its directory on this machine.
    pub(super) directory: PathBuf,
    /// Its cgroups of version 1.
    pub(super) cgroups: Vec<PathBuf>,
    /// Directories of programs, for containerd to find its shim and runc.
    pub(super) path: String,
    /// In this order: containerd, then what needs it.
    pub(super) services: Vec<Service>,
}

/// A program that runs as long as the node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) command: Vec<String>,
}

/// Runs a node from its description until it ends; its process 1 ends with this one.
///
/// # Errors
/// When the kernel refuses one of its namespaces, or process 1 fails.
pub fn run_node(description: &Path) -> Result<()> {
    let node = read(description)?;
    for cgroup in &node.cgroups {
        let members = cgroup.join("cgroup.procs");
        fs::write(&members, "0").map_err(Error::system(format!("enter {}", cgroup.display())))?;
    }
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).map_err(Error::errno("make the namespaces of a node"))?;
    let program = std::env::current_exe().map_err(Error::system("find this program"))?;
    let mut command = Command::new(program);
    command.args(["node", "--inside"]).arg(description);
    // SAFETY: the closure only makes the system call prctl.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .map_err(Error::system("start process 1 of a node"))?;
    let number = node.directory.join("process");
    fs::write(&number, child.id().to_string()).map_err(Error::system("write the node's pid"))?;
    let status = child
        .wait()
        .map_err(Error::system("wait for process 1 of a node"))?;
    Err(Error::Program {
        command: format!("process 1 of {}", node.name),
        status: status.to_string(),
        output: "see above".to_owned(),
    })
}

/// Process 1 of a node.
///
/// # Errors
/// When the node can't be set up, or one of its services ends.
pub fn be_process_1(description: &Path) -> Result<()> {
    let node = read(description)?;
    mount_all(&node)?;
    sethostname(&node.name).map_err(Error::errno("name the node"))?;
    let mut services = Vec::new();
    for service in &node.services {
        services.push((service.name.as_str(), start(service, &node)?));
        if service.name == "containerd" {
            wait_until("containerd to listen", CONTAINERD_WITHIN, || {
                UnixStream::connect(CONTAINERD).is_ok()
            })?;
        }
    }
    loop {
        // Also whatever lost its parent: containers' shims, mostly.
        let ended = wait().map_err(Error::errno("wait for the node's processes"))?;
        let of_ended = |(_, child): &&(&str, Child)| {
            ended.pid().map(nix::unistd::Pid::as_raw) == Some(child.id().cast_signed())
        };
        if let Some((name, _)) = services.iter().find(of_ended) {
            return Err(Error::Program {
                command: (*name).to_owned(),
                status: format!("{ended:?}"),
                output: format!("see {name}.log in {}", node.directory.display()),
            });
        }
    }
}

fn read(description: &Path) -> Result<NodeFile> {
    let failed = format!("read {}", description.display());
    let text = fs::read_to_string(description).map_err(Error::system(failed.clone()))?;
    serde_json::from_str(&text).map_err(|error| Error::Unreadable(format!("{failed}: {error}")))
}

fn start(service: &Service, node: &NodeFile) -> Result<Child> {
    let failed = || Error::system(format!("start {}", service.name));
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(Path::new(DIRECTORY).join(format!("{}.log", service.name)))
        .map_err(failed())?;
    let (program, arguments) = service
        .command
        .split_first()
        .ok_or_else(|| Error::Missing(format!("{} without a program", service.name)))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", &node.path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed())?)
        .stderr(log);
    if service.name == "kubelet"
        && let Some(members) = own_cgroup(&service.name)?
    {
        // SAFETY: the closure only makes the system call write.
        unsafe { command.pre_exec(move || (&members).write_all(b"0")) };
    }
    command.spawn().map_err(failed())
}

/// The list of processes of a cgroup of version 2 for one service, as systemd gives each its
/// own; none where that version isn't mounted.
fn own_cgroup(service: &str) -> Result<Option<fs::File>> {
    let hierarchies = Hierarchy::all()?;
    let unified = hierarchies.iter().find(|each| each.kind == "cgroup2");
    let Some(unified) = unified else {
        return Ok(None);
    };
    let cgroup = unified.mount.join(service);
    // It may be there from a run before.
    let _ = fs::create_dir(&cgroup);
    let members = cgroup.join("cgroup.procs");
    let members = fs::OpenOptions::new().write(true).open(&members);
    let failed = Error::system(format!("open {}", cgroup.display()));
    members.map(Some).map_err(failed)
}

/// The file systems of a node.
fn mount_all(node: &NodeFile) -> Result<()> {
    let hierarchies = Hierarchy::all()?;
    // What happens here stays here, and is seen by pods that ask for it, as on a
    // machine with systemd.
    change("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    change("/", MsFlags::MS_REC | MsFlags::MS_SHARED)?;
    for name in OVERLAYS {
        let layer = |part| node.directory.join(name).join(part).display().to_string();
        let options = format!(
            "lowerdir=/{name},upperdir={},workdir={}",
            layer("upper"),
            layer("work")
        );
        mount_new("overlay", &format!("/{name}"), Some(&options))?;
    }
    for store in STORES {
        bind(&node.directory.join(store), &format!("/var/lib/{store}"))?;
    }
    // The last that needs this machine's /run.
    let directory = fs::File::open(&node.directory)
        .map_err(Error::system(format!("open {}", node.directory.display())))?;
    mount_new("tmpfs", "/run", Some("mode=755"))?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&directory);
    bind(Path::new(&format!("/proc/self/fd/{descriptor}")), DIRECTORY)?;
    mount_new("proc", "/proc", None)?;
    mount_new("sysfs", "/sys", None)?;
    mount_new("bpf", "/sys/fs/bpf", Some("mode=700"))?;
    mount_cgroups(&hierarchies)
}

/// The hierarchies as this machine has them, but from the node's own cgroups down.
fn mount_cgroups(hierarchies: &[Hierarchy]) -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    if hierarchies.iter().all(|hierarchy| hierarchy.mount != top) {
        mount_new("tmpfs", "/sys/fs/cgroup", Some("mode=755"))?;
    }
    for hierarchy in hierarchies {
        let options = Some(hierarchy.options.as_str()).filter(|options| !options.is_empty());
        mount_new(
            &hierarchy.kind,
            &hierarchy.mount.display().to_string(),
            options,
        )?;
    }
    Ok(())
}

fn mount_new(kind: &str, at: &str, options: Option<&str>) -> Result<()> {
    let what = format!("mount {kind} at {at} ({})", options.unwrap_or("no options"));
    // File systems of the kernel have their mount points already.
    let _ = fs::create_dir_all(at);
    mount(Some(kind), at, Some(kind), MsFlags::empty(), options).map_err(Error::errno(what))
}

fn bind(source: &Path, at: &str) -> Result<()> {
    let what = format!("bind {} to {at}", source.display());
    fs::create_dir_all(at).map_err(Error::system(what.clone()))?;
    mount(
        Some(source),
        at,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(Error::errno(what))
}

fn change(at: &str, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>)
        .map_err(Error::errno(format!("change how {at} spreads")))
}
