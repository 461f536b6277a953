//! The control plane under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::binaries::Binaries;
use super::parts::{PATIENCE, append, loopback};
use crate::error::{Error, Result};
use crate::http;
use crate::manifest::Manifests;
use crate::process::Process;
use crate::topology::Topology;
use crate::wait::wait_for;

const PORT: u16 = 15010;
const ADMIN_PORT: u16 = 15011;
const MONITORING_PORT: u16 = 15014;

#[derive(Debug)]
pub(super) struct ControlPlane {
    process: Process,
    program: String,
    command_line: Vec<String>,
    state: PathBuf,
    logs: PathBuf,
    address: SocketAddr,
}

impl ControlPlane {
    /// Starts it on the fabric and waits until it is ready.
    pub(super) fn start(
        binaries: &Binaries,
        topology: &Topology,
        manifests: &Manifests,
        directory: &Path,
        leaf_lifetime: Option<&str>,
    ) -> Result<Self> {
        let address = SocketAddr::new(topology.fabric().ipv4(), PORT);
        let (state, logs) = (directory.join("state"), directory.to_path_buf());
        let program = binaries.control_plane().to_owned();
        let mut command_line = vec![
            program.clone(),
            "serve".to_owned(),
            format!("--config-directory={}", manifests.directory().display()),
            format!("--state-directory={}", state.display()),
            format!("--listen={address}"),
            format!("--admin={}", loopback(ADMIN_PORT)),
            format!(
                "--monitoring={}",
                SocketAddr::new(address.ip(), MONITORING_PORT)
            ),
            "--log-format=json".to_owned(),
        ];
        command_line.extend(leaf_lifetime.map(|lifetime| format!("--leaf-lifetime={lifetime}")));
        let process = spawn(topology, &logs, &command_line)?;
        let mut control_plane = Self {
            process,
            program,
            command_line,
            state,
            logs,
            address,
        };
        control_plane.wait_ready(topology)?;
        Ok(control_plane)
    }

    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    pub(super) fn restart(&mut self, topology: &Topology) -> Result<()> {
        self.process.kill();
        self.process = spawn(topology, &self.logs, &self.command_line)?;
        self.wait_ready(topology)
    }

    /// Takes a step of a root rotation, as an operator does.
    pub(super) fn rotate_root(&self, topology: &Topology, step: &str) -> Result<String> {
        let state = self.state.display().to_string();
        let line = [
            &self.program,
            "rotate-root",
            step,
            "--state-directory",
            &state,
        ];
        topology.fabric().place().output(&line, PATIENCE)
    }

    fn wait_ready(&mut self, topology: &Topology) -> Result<()> {
        wait_for("the control plane to be ready", PATIENCE, || {
            if !self.process.is_running() {
                let log = self.log();
                return Ok(Err(Error::Missing(format!(
                    "the control plane ended: {log}"
                ))));
            }
            let namespace = topology.fabric().namespace();
            match http::get(namespace, loopback(ADMIN_PORT), "/readyz") {
                Ok(answer) if answer.status == 200 => Ok(Ok(())),
                Ok(answer) => Err(answer.body),
                Err(error) => Err(error.to_string()),
            }
        })?
    }

    /// A token for a node, in a file.
    pub(super) fn token(&self, topology: &Topology, node: &str) -> Result<PathBuf> {
        self.token_for(topology, ["--node", node])
    }

    /// A token for a pod, as `namespace/name`, in a file.
    pub(super) fn pod_token(&self, topology: &Topology, pod: &str) -> Result<PathBuf> {
        self.token_for(topology, ["--pod", pod])
    }

    fn token_for(&self, topology: &Topology, [option, name]: [&str; 2]) -> Result<PathBuf> {
        let state = self.state.display().to_string();
        let line = [
            &self.program,
            "token",
            "--state-directory",
            &state,
            option,
            name,
        ];
        let token = topology.fabric().place().output(&line, PATIENCE)?;
        let file = format!("{}.token", name.replace('/', "-"));
        let path = self.logs.join(file);
        append(&path, &token)?;
        Ok(path)
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn root_certificates(&self) -> PathBuf {
        self.state.join("ca/root.pem")
    }

    pub(super) fn state_directory(&self) -> &Path {
        &self.state
    }

    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(super) fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}

fn spawn(topology: &Topology, logs: &Path, command_line: &[String]) -> Result<Process> {
    let line: Vec<_> = command_line.iter().map(String::as_str).collect();
    topology
        .fabric()
        .place()
        .spawn("control-plane", logs, &line)
}
