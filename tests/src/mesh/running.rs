//! A mesh that runs, and all that a test does with it.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::agent::Agent;
use super::binaries::Binaries;
use super::control_plane::ControlPlane;
use super::logs;
use super::parts::PATIENCE;
use super::sidecar::Sidecar;
use crate::access_log::{self, AccessRecord};
use crate::error::{Error, Result};
use crate::manifest::{Manifests, PodSpec, ServiceSpec};
use crate::process::Process;
use crate::topology::{Pod, Topology};
use crate::wait::wait_for;

/// How long a request of a test may take.
const REQUEST_PATIENCE: Duration = Duration::from_secs(120);

/// A running mesh. Everything is gone when it is dropped; when that happens in a
/// panic, the ends of its logs are shown and its files kept first.
#[derive(Debug)]
pub struct Mesh {
    // In this order: processes, then namespaces and cgroups, then files.
    pub(super) apps: Vec<(String, Process)>,
    pub(super) sidecars: Vec<Sidecar>,
    pub(super) agents: Vec<Agent>,
    pub(super) control_plane: ControlPlane,
    pub(super) topology: Topology,
    pub(super) manifests: Manifests,
    pub(super) pods: Vec<PodSpec>,
    pub(super) binaries: Binaries,
    pub(super) directory: TempDir,
}

pub(super) fn write_pod(
    topology: &mut Topology,
    manifests: &Manifests,
    spec: &PodSpec,
) -> Result<()> {
    if topology.pod(&spec.name).is_err() {
        topology.add_pod(&spec.name, spec.node)?;
    }
    let pod = topology.pod(&spec.name)?;
    let namespace = pod.host.namespace().name();
    let document = spec.document(&pod.node, namespace, pod.host.addresses());
    manifests.write(&format!("pod-{}", spec.name), &document)
}

impl Mesh {
    /// Nodes, pods and the fabric.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A pod.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.topology.pod(name)
    }

    /// Where the mesh's files are: logs, state, manifests. Gone with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The control plane's state directory.
    pub fn state_directory(&self) -> &Path {
        self.control_plane.state_directory()
    }

    /// The documents that the mesh runs from.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Starts `weft-test-app` in a pod as a server that lives as long as the mesh, and
    /// waits until it listens.
    ///
    /// # Errors
    /// When it doesn't listen in time.
    pub fn serve(&mut self, pod: &str, arguments: &[&str]) -> Result<()> {
        let mut process = self.spawn(pod, arguments)?;
        process.wait_for_text("listening", PATIENCE)?;
        self.apps.push((pod.to_owned(), process));
        Ok(())
    }

    /// Starts `weft-test-app` in a pod.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, pod: &str, arguments: &[&str]) -> Result<Process> {
        let line = [&[self.binaries.test_app()], arguments].concat();
        let logs = tempfile::Builder::new()
            .prefix(&format!("app-{pod}-"))
            .tempdir_in(self.directory.path())
            .map_err(Error::system("make a directory for logs"))?;
        let mode = arguments.first().copied().unwrap_or("app");
        self.pod(pod)?
            .host
            .place()
            .spawn(&format!("{pod}-{mode}"), &logs.keep(), &line)
    }

    /// Runs `weft-test-app` in a pod to its end and reads its JSON report.
    ///
    /// # Errors
    /// When it fails or writes something else.
    pub fn report(&self, pod: &str, arguments: &[&str]) -> Result<serde_json::Value> {
        let line = [&[self.binaries.test_app()], arguments].concat();
        let output = self
            .pod(pod)?
            .host
            .place()
            .output(&line, REQUEST_PATIENCE)?;
        parse_report(&output)
    }

    /// Runs a program in a pod to its end and gives back what it wrote.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, pod: &str, command_line: &[&str]) -> Result<String> {
        self.pod(pod)?
            .host
            .place()
            .output(command_line, REQUEST_PATIENCE)
    }

    /// Adds a pod, or changes the one of that name, and tells the mesh.
    ///
    /// # Errors
    /// When the pod can't be made or its document not be written.
    pub fn apply_pod(&mut self, pod: PodSpec) -> Result<()> {
        write_pod(&mut self.topology, &self.manifests, &pod)?;
        self.pods.retain(|known| known.name != pod.name);
        self.pods.push(pod);
        Ok(())
    }

    /// Tells the mesh that a pod is gone.
    ///
    /// # Errors
    /// When its document can't be removed.
    pub fn withdraw_pod(&mut self, name: &str) -> Result<()> {
        self.pods.retain(|known| known.name != name);
        self.manifests.remove(&format!("pod-{name}"))
    }

    /// Ends a pod: its processes and its namespace.
    ///
    /// # Errors
    /// When its processes survive.
    pub fn delete_pod(&mut self, name: &str) -> Result<()> {
        self.apps.retain(|(pod, _)| pod != name);
        self.topology.remove_pod(name)
    }

    /// Adds a service, or changes the one of that name.
    ///
    /// # Errors
    /// When its document can't be written.
    pub fn apply_service(&self, service: &ServiceSpec) -> Result<()> {
        self.manifests.write_service(service)
    }

    /// Makes mutual TLS mandatory in the whole mesh, or not.
    ///
    /// # Errors
    /// When the document can't be written.
    pub fn apply_strict(&self, strict: bool) -> Result<()> {
        let mode = if strict { "Strict" } else { "Permissive" };
        self.manifests.write_mesh_config(mode)
    }

    /// Ends a node's agent, as a crash would.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill_agent(&mut self, node: u8) -> Result<()> {
        self.agent_mut(node)?.kill();
        Ok(())
    }

    /// Tells a node's agent to stop, and waits until it has.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn stop_agent(&mut self, node: u8) -> Result<()> {
        self.agent_mut(node)?.stop()
    }

    /// Starts a node's agent again, with the options that it had.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart_agent(&mut self, node: u8) -> Result<()> {
        self.agent_mut(node)?.restart()
    }

    /// Updates a node's agent: a successor stands by, and the one that serves is told to stop.
    ///
    /// # Errors
    /// When the successor ends or doesn't come so far.
    pub fn begin_agent_update(&mut self, node: u8) -> Result<()> {
        self.agent_mut(node)?.begin_update()
    }

    /// The agent whose place was taken last by an update.
    ///
    /// # Errors
    /// When there was none.
    pub fn agent_predecessor(&mut self, node: u8) -> Result<&mut Process> {
        let predecessor = self.agent_mut(node)?.predecessor();
        predecessor.ok_or_else(|| Error::Missing("an agent that was updated".to_owned()))
    }

    /// Ends the control plane, as a crash would.
    pub fn kill_control_plane(&mut self) {
        self.control_plane.kill();
    }

    /// Starts the control plane again, on the same state and manifests.
    ///
    /// # Errors
    /// When it doesn't get ready.
    pub fn restart_control_plane(&mut self) -> Result<()> {
        self.control_plane.restart(&self.topology)
    }

    /// Takes a step of a root rotation, such as `start`, and gives back what the control
    /// plane's program says about it.
    ///
    /// # Errors
    /// When the step is refused, with the reason.
    pub fn rotate_root(&self, step: &str) -> Result<String> {
        self.control_plane.rotate_root(&self.topology, step)
    }

    /// Waits until all that the manifests say is so: each opted-in pod captured, every
    /// other not, and every agent knows it of every pod.
    ///
    /// # Errors
    /// With what is missing, when that takes too long or an agent ends.
    pub fn wait_ready(&mut self) -> Result<()> {
        let Self {
            sidecars,
            agents,
            topology,
            pods,
            ..
        } = self;
        let patience = PATIENCE;
        for sidecar in sidecars {
            let what = format!("the sidecar of {} to be ready", sidecar.pod());
            wait_for(&what, patience, || {
                if !sidecar.is_running() {
                    return Ok(Err(Error::Missing(format!(
                        "the sidecar of {} ended: {}",
                        sidecar.pod(),
                        sidecar.log_tail(5)
                    ))));
                }
                match sidecar.get(topology, "/readyz") {
                    Ok(answer) if answer.status == 200 => Ok(Ok(())),
                    Ok(answer) => Err(answer.body),
                    Err(error) => Err(error.to_string()),
                }
            })??;
        }
        for agent in agents {
            let what = format!("{} to be ready", agent.name());
            wait_for(&what, patience, || {
                if !agent.is_running() {
                    return Ok(Err(Error::Missing(format!(
                        "{} ended: {}",
                        agent.name(),
                        agent.log_tail(5)
                    ))));
                }
                agent.is_settled(topology, pods).map(Ok)
            })??;
        }
        Ok(())
    }

    /// Asks a node's agent for something that it serves, such as `/connections`.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn agent_get(&self, node: u8, path: &str) -> Result<String> {
        let agent = self.agent(node)?;
        agent.get(&self.topology, path).map(|answer| answer.body)
    }

    /// Connections that ended so far, as a node's agent tells it.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn access_records(&self, node: u8) -> Result<Vec<AccessRecord>> {
        Ok(access_log::records(&self.agent(node)?.log()))
    }

    /// Waits for an access record on a node.
    ///
    /// # Errors
    /// When none comes that fits; shows the last ones that didn't.
    pub fn wait_record(
        &self,
        node: u8,
        fits: impl Fn(&AccessRecord) -> bool,
    ) -> Result<AccessRecord> {
        wait_for("an access record", PATIENCE, || {
            let records = self.access_records(node).unwrap_or_default();
            let found = records.iter().rev().find(|record| fits(record)).cloned();
            found.ok_or_else(|| {
                let lines = records.iter().rev().take(12).map(ToString::to_string);
                lines.collect::<Vec<_>>().join("\n")
            })
        })
    }

    /// What a node's agent logged.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn agent_log(&self, node: u8) -> Result<String> {
        Ok(self.agent(node)?.log())
    }

    /// The process of a node's agent, for its counters.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn agent_pid(&self, node: u8) -> Result<u32> {
        Ok(self.agent(node)?.pid())
    }

    fn agent_mut(&mut self, node: u8) -> Result<&mut Agent> {
        let index = usize::from(node).checked_sub(1);
        let agent = index.and_then(|index| self.agents.get_mut(index));
        agent.ok_or_else(|| missing_node(node))
    }

    fn agent(&self, node: u8) -> Result<&Agent> {
        let index = usize::from(node).checked_sub(1);
        let agent = index.and_then(|index| self.agents.get(index));
        agent.ok_or_else(|| missing_node(node))
    }

    /// Shows the ends of all logs, and keeps the files.
    pub(super) fn show_logs(&self) {
        logs::show("control plane", &self.control_plane.log());
        for agent in &self.agents {
            logs::show(&format!("agent of {}", agent.name()), &agent.log());
        }
        for sidecar in &self.sidecars {
            logs::show(&format!("sidecar of {}", sidecar.pod()), &sidecar.log());
        }
        for (pod, app) in &self.apps {
            logs::show(&format!("{} in {pod}", app.name()), &app.stderr());
        }
        logs::keep(self.directory.path());
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        } else if logs::are_wanted() {
            logs::keep(self.directory.path());
        }
    }
}

fn missing_node(node: u8) -> Error {
    Error::Missing(format!("there is no node {node}"))
}

/// The report that a program of the test bed wrote.
///
/// # Errors
/// When it isn't JSON.
pub fn parse_report(output: &str) -> Result<serde_json::Value> {
    let last = output.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .map_err(|error| Error::Unreadable(format!("not a report ({error}): {output}")))
}
