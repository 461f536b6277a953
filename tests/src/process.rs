//! Processes that run somewhere: in a network namespace, in a cgroup.

mod bound;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::wait::wait_for;

/// How long a killed process may take to be reaped.
const REAP_WITHIN: Duration = Duration::from_secs(10);

/// Where processes run.
#[derive(Clone, Debug)]
pub struct Place {
    /// File of the network namespace.
    pub namespace: PathBuf,
    /// Directory of the cgroup.
    pub cgroup: PathBuf,
}

impl Place {
    /// A program that will run there, in a process group of its own, with room for as
    /// many open files as this process may give: tests open thousands of connections.
    ///
    /// # Errors
    /// When the place is gone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let namespace = File::open(&self.namespace)
            .map_err(Error::system(format!("open {}", self.namespace.display())))?;
        let members = self.cgroup.join("cgroup.procs");
        let members = OpenOptions::new()
            .write(true)
            .open(&members)
            .map_err(Error::system(format!("open {}", members.display())))?;
        let namespace = OwnedFd::from(namespace);
        let (_, open_files) = getrlimit(Resource::RLIMIT_NOFILE)
            .map_err(Error::errno("ask for the limit of open files"))?;
        let mut command = Command::new(program);
        command.process_group(0).stdin(Stdio::null());
        let enter = move || {
            // The cgroup first: from its first socket on, the process is in its place.
            (&members).write_all(b"0")?;
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            setrlimit(Resource::RLIMIT_NOFILE, open_files, open_files)?;
            Ok(())
        };
        // SAFETY: the closure only makes system calls (write, setns, prlimit) on
        // descriptors it owns, takes no lock and allocates nothing.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Runs a program to its end and gives back what it wrote.
    ///
    /// # Errors
    /// When it can't be started, exits with a failure, or takes longer than `limit`.
    pub fn output(&self, command_line: &[&str], limit: Duration) -> Result<String> {
        let (program, arguments) = split(command_line)?;
        let mut command = self.command(program)?;
        command.args(arguments);
        let output = finish(command, command_line, limit)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(Error::Program {
            command: command_line.join(" "),
            status: output.status.to_string(),
            output: text + &String::from_utf8_lossy(&output.stderr),
        })
    }

    /// Starts a program that runs on, logging to `NAME.out` and `NAME.err` in `logs`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, name: &str, logs: &Path, command_line: &[&str]) -> Result<Process> {
        let (program, arguments) = split(command_line)?;
        let mut command = self.command(program)?;
        command.args(arguments);
        Process::spawn(command, name, logs)
    }
}

fn split<'a>(command_line: &'a [&'a str]) -> Result<(&'a str, &'a [&'a str])> {
    let split = command_line
        .split_first()
        .map(|(program, rest)| (*program, rest));
    split.ok_or_else(|| Error::Missing("a command line without a program".to_owned()))
}

pub(crate) fn finish(
    mut command: Command,
    command_line: &[&str],
    limit: Duration,
) -> Result<Output> {
    let line = command_line.join(" ");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::system(format!("start {line}")))?;
    let pid = pid_of(&child);
    // A thread reads both pipes, so that a talkative program can't block on them.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(limit) {
        Ok(output) => output.map_err(Error::system(format!("read the output of {line}"))),
        Err(_) => {
            let _ = kill(pid, Signal::SIGKILL);
            let output = receiver
                .recv_timeout(REAP_WITHIN)
                .ok()
                .and_then(|output| output.ok());
            let last = output.map(|output| {
                [output.stdout, output.stderr]
                    .map(|text| String::from_utf8_lossy(&text).into_owned())
                    .concat()
            });
            let last = last.unwrap_or_else(|| "nothing".to_owned());
            Err(Error::Deadline {
                what: line,
                seconds: limit.as_secs(),
                last,
            })
        }
    }
}

/// A running process; killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Bytes of both that others of its name wrote before it.
    before: [usize; 2],
}

impl Process {
    /// Starts a command, with a pipe as its standard input.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(command: Command, name: &str, logs: &Path) -> Result<Self> {
        Self::start(command, name, logs, |mut command| command.spawn())
    }

    /// The same for a program that doesn't end with its standard input: the kernel
    /// kills it when this process ends, however it ends.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn_bound(command: Command, name: &str, logs: &Path) -> Result<Self> {
        Self::start(command, name, logs, bound::spawn)
    }

    fn start(
        mut command: Command,
        name: &str,
        logs: &Path,
        spawn: impl FnOnce(Command) -> io::Result<Child>,
    ) -> Result<Self> {
        let [stdout, stderr] = ["out", "err"].map(|end| logs.join(format!("{name}.{end}")));
        let append = |path: &Path| {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened.map_err(Error::system(format!("open {}", path.display())))
        };
        command
            .stdin(Stdio::piped())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?);
        let before = [&stdout, &stderr].map(|path| bytes(path).len());
        let failed = Error::system(format!("start {name} ({command:?})"));
        let child = spawn(command).map_err(failed)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
            before,
        })
    }

    /// What it was started as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(pid_of(&self.child), signal).map_err(Error::errno(format!("signal {}", self.name)))
    }

    /// Closes its standard input: how the programs of the test bed are told to stop.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it runs longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let child = &mut self.child;
        wait_for(&what, limit, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Tells it to stop by closing its input and gives back what it wrote.
    ///
    /// # Errors
    /// When it runs on or exits with a failure.
    pub fn finish(mut self, limit: Duration) -> Result<String> {
        self.close_input();
        let status = self.wait(limit)?;
        if status.success() {
            return Ok(self.stdout());
        }
        Err(Error::Program {
            command: self.name.clone(),
            status: status.to_string(),
            output: self.stdout() + &self.stderr(),
        })
    }

    /// Waits until its standard output or error has a text, of its own: others of its name may
    /// have written it before.
    ///
    /// # Errors
    /// When the text doesn't come, or the process ends first.
    pub fn wait_for_text(&mut self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("{} to write `{text}`", self.name);
        wait_for(&what, limit, || {
            // Before its output is read: it may write and end in between.
            let is_running = self.is_running();
            let output = self.own_output();
            if output.contains(text) {
                return Ok(Ok(()));
            }
            if is_running {
                return Err(output);
            }
            let (command, status) = (self.name.clone(), "ended".to_owned());
            Ok(Err(Error::Program {
                command,
                status,
                output,
            }))
        })?
    }

    fn own_output(&self) -> String {
        let [out, err] = [
            (&self.stdout, self.before[0]),
            (&self.stderr, self.before[1]),
        ]
        .map(|(path, before)| bytes(path).get(before..).unwrap_or_default().to_vec());
        String::from_utf8_lossy(&[out, err].concat()).into_owned()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&bytes(path)).into_owned()
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_of_its_name_has_written_is_not_its_own() {
        let logs = tempfile::tempdir().unwrap();
        let written = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let mut process = Process::spawn_bound(command, "server", logs.path()).unwrap();
            process.wait_for_text("listening", Duration::from_secs(60))
        };
        written("echo listening").unwrap();
        written("true").unwrap_err();
        written("echo listening >&2").unwrap();
    }
}
