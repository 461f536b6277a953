//! A node from the outside: its files, its processes, its crash.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::api_server::ApiServer;
use super::inside::{CONTAINERD, DIRECTORY, NodeFile, OVERLAYS, STORES, Service};
use super::kube_proxy::KubeProxy;
use super::kubeconfig::Identity;
use super::{Binaries, hierarchies, settings};
use crate::cgroup;
use crate::error::{Error, Result};
use crate::process::{Place, Process, finish};
use crate::run::RunId;
use crate::topology;
use crate::wait::wait_for;

/// How long containerd may take to start, and to take an image, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
const PLUGINS: [&str; 4] = ["bridge", "loopback", "host-local", "portmap"];

/// A machine of the cluster.
#[derive(Debug)]
pub(super) struct Node {
    process: Option<Process>,
    name: String,
    directory: PathBuf,
    place: Place,
    cgroups: Vec<PathBuf>,
    ctr: PathBuf,
}

/// What every node is made from.
pub(super) struct NodeParts<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) api_server: &'a ApiServer,
    pub(super) kube_proxy: KubeProxy,
    pub(super) run: &'a RunId,
    /// The directory of the cluster.
    pub(super) directory: &'a Path,
}

impl Node {
    /// Writes all that the node needs; doesn't start it.
    ///
    /// # Errors
    /// When a file or a cgroup can't be made.
    pub(super) fn prepare(parts: &NodeParts<'_>, host: &topology::Node) -> Result<Self> {
        let directory = parts.directory.join(&host.name);
        let cgroups = Path::new(&parts.run.name("")).join(&host.name);
        let node = Self {
            process: None,
            name: host.name.clone(),
            place: Place {
                namespace: host.host.namespace().path(),
                cgroup: host.cgroup().clone(),
            },
            cgroups: hierarchies::create(&cgroups)?,
            ctr: parts.binaries.path("containerd/ctr")?.to_owned(),
            directory,
        };
        for store in STORES {
            create(&node.directory.join(store))?;
        }
        for overlay in OVERLAYS {
            create(&node.directory.join(overlay).join("upper"))?;
            create(&node.directory.join(overlay).join("work"))?;
        }
        node.write_machine(parts.binaries, host)?;
        node.write_settings(parts)?;
        node.write_services(parts.binaries, host.host.ipv4())?;
        Ok(node)
    }

    /// What is in the node's /etc and /opt.
    fn write_machine(&self, binaries: &Binaries, host: &topology::Node) -> Result<()> {
        let etc = self.directory.join("etc/upper");
        create(&etc.join("cni/net.d"))?;
        let cni = settings::cni(host.number());
        write(&etc.join("cni/net.d/10-pods.conflist"), &cni.to_string())?;
        let hosts = format!("127.0.0.1 localhost\n{} {}\n", host.host.ipv4(), self.name);
        write(&etc.join("hosts"), &hosts)?;
        write(&etc.join("hostname"), &format!("{}\n", self.name))?;
        // There is nobody to ask outside of the cluster.
        write(&etc.join("resolv.conf"), "")?;
        let identity = format!("{:032x}\n", host.number());
        write(&etc.join("machine-id"), &identity)?;
        let plugins = self.directory.join("opt/upper/cni/bin");
        create(&plugins)?;
        for plugin in PLUGINS {
            let program = binaries.path(&format!("containerd/{plugin}"))?;
            fs::copy(program, plugins.join(plugin))
                .map_err(Error::system(format!("copy {}", program.display())))?;
        }
        Ok(())
    }

    fn write_settings(&self, parts: &NodeParts<'_>) -> Result<()> {
        let authority = parts.api_server.authority();
        let file = |name: &str| self.directory.join(name);
        write(&file("ca.crt"), &authority.certificate())?;
        let user = format!("system:node:{}", self.name);
        for (name, credential) in [
            ("kubelet", authority.client(&user, &["system:nodes"])?),
            ("kube-proxy", authority.client("system:kube-proxy", &[])?),
        ] {
            parts.api_server.endpoint().write_kubeconfig(
                &file(&format!("{name}.kubeconfig")),
                Identity::Certificate(&credential),
            )?;
        }
        let runc = parts.binaries.text("containerd/runc")?;
        write(&file("containerd.toml"), &settings::containerd(&runc))?;
        write(&file("kubelet.json"), &settings::kubelet().to_string())?;
        let kube_proxy = settings::kube_proxy(parts.kube_proxy, &self.name);
        write(&file("kube-proxy.json"), &kube_proxy.to_string())
    }

    fn write_services(&self, binaries: &Binaries, address: IpAddr) -> Result<()> {
        let containerd = binaries.text("containerd/containerd")?;
        let kubelet = binaries.text("kubernetes/kubelet")?;
        let kube_proxy = binaries.text("kubernetes/kube-proxy")?;
        let programs = Path::new(&containerd).parent().unwrap_or(Path::new("/"));
        let service = |name: &str, command| Service {
            name: name.to_owned(),
            command,
        };
        let file = NodeFile {
            name: self.name.clone(),
            directory: self.directory.clone(),
            cgroups: self.cgroups.clone(),
            path: settings::search_path(programs),
            services: vec![
                service(
                    "containerd",
                    vec![
                        containerd.clone(),
                        "--config".to_owned(),
                        format!("{DIRECTORY}/containerd.toml"),
                    ],
                ),
                service(
                    "kubelet",
                    settings::kubelet_command(&kubelet, &self.name, address),
                ),
                service(
                    "kube-proxy",
                    vec![kube_proxy, format!("--config={DIRECTORY}/kube-proxy.json")],
                ),
            ],
        };
        let text = serde_json::to_string_pretty(&file)
            .map_err(|error| Error::Unreadable(error.to_string()))?;
        write(&self.directory.join("node.json"), &text)
    }

    /// Starts it and waits until containerd answers; `app` is `weft-test-app`.
    ///
    /// # Errors
    /// When it runs already, or ends before that.
    pub(super) fn start(&mut self, app: &Path) -> Result<()> {
        if self.process.is_some() {
            return Err(Error::Missing(format!("{} runs already", self.name)));
        }
        let mut command = self.place.command(app)?;
        command.arg("node").arg(self.directory.join("node.json"));
        let pid = self.directory.join("process");
        // That of the run before.
        let _ = fs::remove_file(&pid);
        let process = Process::spawn_bound(command, "node", &self.directory)?;
        let process = self.process.insert(process);
        let what = format!("{} to start", self.name);
        let ended = wait_for(&what, PATIENCE, || {
            if !process.is_running() {
                return Ok(Some(process.stderr()));
            }
            let pid = fs::read_to_string(&pid).map_err(|error| error.to_string())?;
            let socket = format!("/proc/{pid}/root{CONTAINERD}");
            std::os::unix::net::UnixStream::connect(socket)
                .map(|_| None)
                .map_err(|error| error.to_string())
        })?;
        ended.map_or(Ok(()), |output| {
            Err(Error::Program {
                command: self.name.clone(),
                status: "ended".to_owned(),
                output,
            })
        })
    }

    /// Ends everything on it at once.
    ///
    /// # Errors
    /// When something survives.
    pub(super) fn crash(&mut self) -> Result<()> {
        let process_1 = self.process_1();
        if let (Some(mut process), Some(pid)) = (self.process.take(), process_1) {
            // With process 1 goes its whole namespace, and its parent ends after that.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            process.wait(PATIENCE)?;
        }
        cgroup::empty(&self.place.cgroup)?;
        // A machine that starts has no cgroups of earlier pods.
        let all = self.cgroups.iter().chain([&self.place.cgroup]);
        all.for_each(|path| hierarchies::remove_below(path));
        Ok(())
    }

    /// Its name, such as `node-1`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Process 1 of the node, as this machine numbers it; `None` while it is down.
    pub(super) fn process_1(&self) -> Option<u32> {
        let text = self
            .process
            .as_ref()
            .and_then(|_| fs::read_to_string(self.directory.join("process")).ok())?;
        text.parse().ok()
    }

    /// Runs a program on the node, in all its namespaces, to its end.
    ///
    /// # Errors
    /// When the node is down, or the program fails or takes longer than `limit`.
    pub(super) fn output(&self, command_line: &[&str], limit: Duration) -> Result<String> {
        let pid = self.process_1().ok_or_else(|| self.is_down())?.to_string();
        let namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup"];
        let mut command = self.place.command("nsenter")?;
        command
            .args(["--target", &pid])
            .args(namespaces)
            .arg("--")
            .args(command_line);
        run(command, command_line, limit)
    }

    /// Gives containerd an image.
    ///
    /// # Errors
    /// When the node is down or containerd refuses it.
    pub(super) fn load(&self, archive: &Path) -> Result<()> {
        let pid = self.process_1().ok_or_else(|| self.is_down())?;
        load(&self.ctr, pid, archive)
    }

    fn is_down(&self) -> Error {
        Error::Missing(format!("{} is down", self.name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What survives is collected by the next run.
        let _ = self.crash();
        for path in &self.cgroups {
            hierarchies::remove(path);
            // The run's own goes with its last node.
            let _ = path.parent().map(fs::remove_dir);
        }
    }
}

/// Gives an image to the containerd of the node with this process 1.
///
/// # Errors
/// When containerd refuses it.
pub(super) fn load(ctr: &Path, process_1: u32, archive: &Path) -> Result<()> {
    let socket = format!("/proc/{process_1}/root{CONTAINERD}");
    let archive = archive.display().to_string();
    let line = ["-n", "k8s.io", "images", "import", "--local", &archive];
    let mut command = Command::new(ctr);
    command.args(["-a", &socket]).args(line);
    run(command, &line, PATIENCE).map(drop)
}

fn run(command: Command, command_line: &[&str], limit: Duration) -> Result<String> {
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

fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::system(format!("create {}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::system(format!("write {}", path.display())))
}
