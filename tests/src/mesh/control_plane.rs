//! The control plane under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Binaries, PATIENCE, append, loopback};
use crate::error::{Error, Result};
use crate::http;
use crate::manifest::Manifests;
use crate::process::Process;
use crate::topology::Topology;
use crate::wait::wait_for;

const PORT: u16 = 15010;
const ADMIN_PORT: u16 = 15011;

#[derive(Debug)]
pub(super) struct ControlPlane {
    process: Process,
    program: String,
    manifests: PathBuf,
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
    ) -> Result<Self> {
        let address = SocketAddr::new(topology.fabric().ipv4(), PORT);
        let (state, logs) = (directory.join("state"), directory.to_path_buf());
        let (program, manifests) = (
            binaries.control_plane().to_owned(),
            manifests.directory().to_path_buf(),
        );
        let process = spawn(topology, &program, &manifests, &state, &logs, address)?;
        let mut control_plane = Self {
            process,
            program,
            manifests,
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
        let Self {
            program,
            manifests,
            state,
            logs,
            address,
            ..
        } = &*self;
        self.process = spawn(topology, program, manifests, state, logs, *address)?;
        self.wait_ready(topology)
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
        let state = self.state.display().to_string();
        let line = [
            &self.program,
            "token",
            "--state-directory",
            &state,
            "--node",
            node,
        ];
        let token = topology.fabric().place().output(&line, PATIENCE)?;
        let path = self.logs.join(format!("{node}.token"));
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

fn spawn(
    topology: &Topology,
    program: &str,
    manifests: &Path,
    state: &Path,
    logs: &Path,
    address: SocketAddr,
) -> Result<Process> {
    let (manifests, state) = (manifests.display().to_string(), state.display().to_string());
    let (address, admin) = (address.to_string(), loopback(ADMIN_PORT).to_string());
    let line = [
        program,
        "serve",
        "--config-directory",
        &manifests,
        "--state-directory",
        &state,
        "--listen",
        &address,
        "--admin",
        &admin,
        "--log-format",
        "json",
    ];
    topology
        .fabric()
        .place()
        .spawn("control-plane", logs, &line)
}
