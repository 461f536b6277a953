//! Named network namespaces (ip-netns(8)).

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

/// Where named namespaces are.
pub const DIRECTORY: &str = "/run/netns";

/// What a new namespace gets before it has interfaces: forwarding on, no waiting for
/// duplicate address detection, no guessing by reverse paths.
const SETTINGS: [(&str, &str); 8] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/forwarding", "1"),
];

/// A network namespace with a name; gone when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes them all: loopback up, forwarding on.
    ///
    /// # Errors
    /// When iproute2 or the kernel refuses; those already made are removed then.
    pub fn create_all(names: &[String]) -> Result<Vec<Self>> {
        let result = Self::try_create_all(names);
        if result.is_err() {
            names.iter().for_each(|name| delete(&path_of(name)));
        }
        result
    }

    fn try_create_all(names: &[String]) -> Result<Vec<Self>> {
        let lines: Vec<_> = names
            .iter()
            .map(|name| format!("netns add {name}"))
            .collect();
        ip(None, &lines)?;
        names
            .iter()
            .map(|name| {
                let namespace = Self {
                    name: name.clone(),
                    file: open(&path_of(name))?,
                };
                namespace.prepare().map(|()| namespace)
            })
            .collect()
    }

    fn prepare(&self) -> Result<()> {
        self.run(|| {
            SETTINGS.iter().try_for_each(|(setting, value)| {
                let path = format!("/proc/sys/net/{setting}");
                fs::write(&path, value).map_err(Error::system(path))
            })
        })??;
        self.ip(&["link set lo up".to_owned()])
    }

    /// Its name under [`DIRECTORY`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// Becomes a new one under its name; the old one goes with what is still in it.
    ///
    /// # Errors
    /// When iproute2 or the kernel refuses.
    pub(crate) fn recreate(&mut self) -> Result<()> {
        delete(&self.path());
        ip(None, &[format!("netns add {}", self.name)])?;
        self.file = open(&self.path())?;
        self.prepare()
    }

    /// Runs iproute2 commands, one a line, inside it.
    ///
    /// # Errors
    /// When one of them fails, with what iproute2 said.
    pub fn ip(&self, commands: &[String]) -> Result<()> {
        ip(Some(&self.name), commands)
    }

    /// The way in for a thread of one's own.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn entrance(&self) -> Result<Entrance> {
        let file = self.file.try_clone();
        let file = file.map_err(Error::system(format!("open {} again", self.name)))?;
        Ok(Entrance(file))
    }

    /// Calls `work` on a thread that is inside this namespace; sockets made there
    /// stay in it.
    ///
    /// # Errors
    /// When the thread can't enter it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let worker = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(Error::errno(format!("enter {}", self.name)))?;
            Ok(work())
        };
        std::thread::scope(|scope| match scope.spawn(worker).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// The way into a namespace for a thread that lives longer than who made it.
#[derive(Debug)]
pub(crate) struct Entrance(File);

impl Entrance {
    /// Moves the calling thread inside, for good.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(Error::errno("enter a namespace"))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.path());
    }
}

/// Removes the name; the namespace itself goes with the last process or socket in it.
pub(crate) fn delete(path: &Path) {
    // Neither is worth an error: what is left is collected by the next run.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::system(format!("open {}", path.display())))
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// `ip -batch`, in the namespace where one is named.
fn ip(namespace: Option<&str>, commands: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]);
    let failed = || Error::system("run `ip` (package iproute2)");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    let text = commands.join("\n") + "\n";
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).map_err(failed())?;
    }
    let output = child.wait_with_output().map_err(failed())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        command: format!(
            "ip -batch, in {}: {}",
            namespace.unwrap_or("-"),
            commands.join("; ")
        ),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
