//! One pod's sidecar under test.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::binaries::Binaries;
use super::control_plane::ControlPlane;
use super::logs::tail;
use super::parts::{PATIENCE, loopback};
use crate::error::{Error, Result};
use crate::http::{self, Answer};
use crate::manifest::PodSpec;
use crate::process::{Place, Process};
use crate::topology::Topology;

/// The user of the proxy.
const PROXY_USER: u32 = 1337;
const ADMIN_PORT: u16 = 15000;

/// A pod's sidecar: redirection set up, the proxy running.
#[derive(Debug)]
pub(super) struct Sidecar {
    process: Process,
    pod: String,
    place: Place,
    command_line: Vec<String>,
    logs: PathBuf,
    /// What it reads, as its user can.
    _files: tempfile::TempDir,
}

impl Sidecar {
    /// Does what its two containers do.
    pub(super) fn start(
        binaries: &Binaries,
        topology: &Topology,
        control_plane: &ControlPlane,
        spec: &PodSpec,
    ) -> Result<Self> {
        let pod = spec.name.as_str();
        let capture = match spec.by_tproxy {
            true => "--capture=tproxy",
            false => "--capture=redirect",
        };
        let host = topology.pod(pod)?;
        let place = host.host.place().clone();
        let files = readable_files(topology, control_plane, pod)?;
        let init = [binaries.sidecar(), "init", capture];
        place.output(&init, PATIENCE)?;
        let command_line = vec![
            binaries.sidecar().to_owned(),
            "run".to_owned(),
            capture.to_owned(),
            format!("--node={}", host.node),
            format!("--pod-name={pod}"),
            "--pod-namespace=default".to_owned(),
            format!("--control-plane={}", control_plane.url()),
            format!(
                "--root-certificates={}",
                files.path().join("root.pem").display()
            ),
            format!("--token-file={}", files.path().join("token").display()),
            "--log-format=json".to_owned(),
        ];
        let logs = control_plane.logs().to_path_buf();
        let process = spawn(&place, pod, &logs, &command_line)?;
        Ok(Self {
            process,
            pod: pod.to_owned(),
            place,
            command_line,
            logs,
            _files: files,
        })
    }

    pub(super) fn pod(&self) -> &str {
        &self.pod
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(super) fn log(&self) -> String {
        self.process.stderr()
    }

    pub(super) fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }

    /// Starts it again, as after a crash.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.place, &self.pod, &self.logs, &self.command_line)?;
        Ok(())
    }

    /// Tells it to stop, and doesn't wait.
    pub(super) fn tell_to_stop(&self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)
    }

    /// Waits until it has ended.
    pub(super) fn wait_ended(&mut self) -> Result<()> {
        let status = self.process.wait(PATIENCE)?;
        match status.success() {
            true => Ok(()),
            false => Err(Error::Program {
                command: format!("sidecar of {}", self.pod),
                status: status.to_string(),
                output: self.log_tail(5),
            }),
        }
    }

    pub(super) fn get(&self, topology: &Topology, path: &str) -> Result<Answer> {
        let namespace = topology.pod(&self.pod)?.host.namespace();
        http::get(namespace, loopback(ADMIN_PORT), path)
    }
}

/// Token and root certificates, for nobody else than the proxy's user.
fn readable_files(
    topology: &Topology,
    control_plane: &ControlPlane,
    pod: &str,
) -> Result<tempfile::TempDir> {
    let files = tempfile::Builder::new()
        .prefix(&format!("{}-sidecar-", topology.run().name("")))
        .tempdir()
        .map_err(Error::system("make a directory for a sidecar's files"))?;
    let token = control_plane.pod_token(topology, &format!("default/{pod}"))?;
    for (from, name) in [
        (token.as_path(), "token"),
        (control_plane.root_certificates().as_path(), "root.pem"),
    ] {
        copy_for_proxy(from, &files.path().join(name))?;
    }
    own(files.path(), 0o700)?;
    Ok(files)
}

fn copy_for_proxy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map_err(Error::system(format!("copy {}", from.display())))?;
    own(to, 0o600)
}

fn own(path: &Path, mode: u32) -> Result<()> {
    let failed = || Error::system(format!("give {} to the proxy", path.display()));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed())?;
    chown(path, Some(PROXY_USER), Some(PROXY_USER)).map_err(failed())
}

fn spawn(place: &Place, pod: &str, logs: &Path, command_line: &[String]) -> Result<Process> {
    let line: Vec<_> = command_line.iter().map(String::as_str).collect();
    place.spawn(&format!("sidecar-{pod}"), logs, &line)
}
