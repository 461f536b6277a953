//! One node's agent under test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::binaries::Binaries;
use super::control_plane::ControlPlane;
use super::logs::tail;
use super::parts::{PATIENCE, loopback};
use crate::error::{Error, Result};
use crate::http::{self, Answer};
use crate::manifest::{PodSpec, Shape};
use crate::process::{Place, Process};
use crate::topology::{Node, Topology};

const ADMIN_PORT: u16 = 15000;

/// How agents are started.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    /// Whether eBPF programs and maps are pinned, so that they outlive the agent.
    pub pinned: bool,
    /// More arguments, such as `--unknown-pods=refuse`.
    pub arguments: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Agent {
    process: Process,
    /// Those that it has taken the place of, which may still drain.
    predecessors: Vec<Process>,
    place: Place,
    command_line: Vec<String>,
    logs: PathBuf,
    node: String,
    number: u8,
}

impl Agent {
    pub(super) fn start(
        binaries: &Binaries,
        topology: &Topology,
        node: &Node,
        control_plane: &ControlPlane,
        options: &AgentOptions,
    ) -> Result<Self> {
        let token = control_plane.token(topology, &node.name)?;
        let cgroup = node.cgroup().join("agent");
        std::fs::create_dir_all(&cgroup)
            .map_err(Error::system(format!("create {}", cgroup.display())))?;
        let place = Place {
            namespace: node.host.namespace().path(),
            cgroup,
        };
        let mut line = vec![
            binaries.agent().to_owned(),
            "run".to_owned(),
            format!("--node={}", node.name),
            format!("--control-plane={}", control_plane.url()),
            format!(
                "--root-certificates={}",
                control_plane.root_certificates().display()
            ),
            format!("--token-file={}", token.display()),
            format!("--cgroup={}", node.cgroup().display()),
            format!("--pods-cgroup={}", node.pods_cgroup().display()),
            format!("--kubelet-cgroup={}", node.kubelet_cgroup().display()),
            format!("--admin={}", loopback(ADMIN_PORT)),
            "--log-format=json".to_owned(),
        ];
        if options.pinned {
            let directory = topology.run().pin_directory(&node.name);
            line.push(format!("--pin-directory={}", directory.display()));
        }
        line.extend(options.arguments.iter().cloned());
        let logs = control_plane.logs().to_path_buf();
        let process = spawn(&place, &node.name, &logs, &line)?;
        Ok(Self {
            process,
            predecessors: Vec::new(),
            place,
            command_line: line,
            logs,
            node: node.name.clone(),
            number: node.number(),
        })
    }

    /// Starts it again.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.kill();
        self.process = spawn(&self.place, &self.node, &self.logs, &self.command_line)?;
        Ok(())
    }

    /// Tells it to stop, as an init system would.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(PATIENCE)?;
        if status.success() {
            return Ok(());
        }
        let (command, status) = (self.node.clone(), status.to_string());
        Err(Error::Program {
            command,
            status,
            output: self.log_tail(5),
        })
    }

    /// Starts a successor beside it, and tells it to stop once that stands by.
    pub(super) fn begin_update(&mut self) -> Result<()> {
        let name = format!("{}-{}", self.node, self.predecessors.len() + 1);
        let mut successor = spawn(&self.place, &name, &self.logs, &self.command_line)?;
        successor.wait_for_text("standing by", PATIENCE)?;
        self.process.signal(Signal::SIGTERM)?;
        let predecessor = std::mem::replace(&mut self.process, successor);
        self.predecessors.push(predecessor);
        Ok(())
    }

    pub(super) fn predecessor(&mut self) -> Option<&mut Process> {
        self.predecessors.last_mut()
    }

    pub(super) fn name(&self) -> &str {
        &self.node
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    pub(super) fn log(&self) -> String {
        self.process.stderr()
    }

    pub(super) fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }

    pub(super) fn get(&self, topology: &Topology, path: &str) -> Result<Answer> {
        let namespace = topology.node(self.number)?.host.namespace();
        http::get(namespace, loopback(ADMIN_PORT), path)
    }

    /// Whether this agent is ready and knows of each pod what its manifest asks for.
    pub(super) fn is_settled(
        &self,
        topology: &Topology,
        pods: &[PodSpec],
    ) -> std::result::Result<(), String> {
        let get = |path| self.get(topology, path).map_err(|error| error.to_string());
        let ready = get("/readyz")?;
        if ready.status != 200 {
            return Err(format!("/readyz says {}: {}", ready.status, ready.body));
        }
        let config = get("/config")?.body;
        let config: Value = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        // On a kernel that refuses its programs it serves nobody, and knows that of itself alone.
        if let Some(reason) = config["incapable"].as_str() {
            let is_served = |pod: &PodSpec| {
                let is_here = format!("node-{}", pod.node) == self.name();
                is_here && pod.enrolled && pod.shape == Shape::Node
            };
            return match pods.iter().any(is_served) {
                true => Err(reason.to_owned()),
                false => Ok(()),
            };
        }
        let known = enrolments(&config);
        let wanted = pods.iter().map(|pod| {
            let enrolment = if pod.enrolled { "captured" } else { "outside" };
            (format!("default/{}", pod.name), enrolment.to_owned())
        });
        let wanted: BTreeMap<_, _> = wanted.collect();
        if known != wanted {
            return Err(format!("it knows {known:?}, not {wanted:?}"));
        }
        Ok(())
    }
}

/// How far `/config` says each pod is into the mesh.
fn enrolments(config: &Value) -> BTreeMap<String, String> {
    let workloads = config["workloads"].as_object().into_iter().flatten();
    let enrolment = |workload: &Value| workload["enrolment"].as_str().map(str::to_owned);
    workloads
        .map(|(uid, workload)| (uid.clone(), enrolment(workload).unwrap_or_default()))
        .collect()
}

fn spawn(place: &Place, node: &str, logs: &Path, command_line: &[String]) -> Result<Process> {
    let line: Vec<_> = command_line.iter().map(String::as_str).collect();
    place.spawn(&format!("agent-{node}"), logs, &line)
}
