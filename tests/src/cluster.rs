//! A real Kubernetes on this machine, or its API server alone.
//!
//! [`ApiServer`] is etcd and kube-apiserver on loopback ports. [`Cluster`] is the whole:
//! a control plane and nodes with network, mounts, processes, name and cgroups of their
//! own, so that what runs there finds everything where a real machine has it and sees
//! nothing of this one.
//!
//! ```no_run
//! # fn main() -> weft_tests::Result<()> {
//! use std::path::Path;
//! use weft_tests::cluster::{Binaries, Cluster, ClusterOptions};
//! use weft_tests::image::Image;
//!
//! let binaries = Binaries::ensure(Path::new("."))?;
//! let cluster = Cluster::up(&binaries, &ClusterOptions::new("target/debug/weft-test-app"))?;
//! let app = Path::new("target/debug/weft-test-app");
//! cluster.load_image(&Image::of_program("weft.test/app:1", app)?)?;
//! cluster.kubectl().run(&["get", "nodes"])?;
//! # Ok(())
//! # }
//! ```

mod api_server;
mod certificates;
mod forward;
pub(crate) mod hierarchies;
mod inside;
mod kube_proxy;
mod kubeconfig;
mod kubectl;
mod load;
mod node;
mod settings;
mod weft;

pub(crate) use api_server::tail;
pub use api_server::{ApiServer, ApiServerOptions, ISSUER};
pub use certificates::{Authority, Credential};
pub use inside::{be_process_1, run_node};
pub use kube_proxy::KubeProxy;
pub use kubeconfig::{Endpoint, Identity};
pub use kubectl::Kubectl;
pub use load::{load_archive_into, load_by_command};
pub use weft::install_weft;
pub use weft_provision::go::Binaries;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use weft_provision::packages::ensure_programs;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::topology::Topology;
use api_server::{API_SERVER_PORT, Home};
use forward::Forwarder;
use node::{Node, NodeParts};
use settings::PAUSE_IMAGE;

/// Programs that kubelet, kube-proxy and containerd call, with the Debian package of
/// each.
const PROGRAMS: [(&str, &str); 10] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ipset", "ipset"),
    ("socat", "socat"),
    ("ethtool", "ethtool"),
    ("modprobe", "kmod"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
];
const DNS: &str = include_str!("../kube/coredns/deployment.yaml");
const DNS_IMAGE: &str = "weft.test/coredns:1";
/// How long a cluster may take for any one step on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a [`Cluster`] shall be.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes, 1 to 9.
    pub nodes: u8,
    /// How kube-proxy does its work.
    pub kube_proxy: KubeProxy,
    /// Further flags of kube-apiserver.
    pub api_server_flags: Vec<String>,
    /// `weft-test-app`, which holds the nodes.
    pub app: PathBuf,
}

impl ClusterOptions {
    /// Two nodes, iptables.
    pub fn new(app: impl Into<PathBuf>) -> Self {
        Self {
            nodes: 2,
            kube_proxy: KubeProxy::default(),
            api_server_flags: Vec::new(),
            app: app.into(),
        }
    }
}

/// A running cluster. Everything is gone when it is dropped, and its processes when
/// this process ends.
#[derive(Debug)]
pub struct Cluster {
    // In this order: processes, then namespaces and cgroups, then files.
    nodes: Vec<Node>,
    _forwarder: Forwarder,
    api_server: ApiServer,
    kubectl: Kubectl,
    topology: Topology,
    directory: TempDir,
    app: PathBuf,
}

impl Cluster {
    /// Starts one and waits until all nodes are ready and names are resolved.
    ///
    /// # Errors
    /// When the machine lacks something, or a part doesn't get ready.
    pub fn up(binaries: &Binaries, options: &ClusterOptions) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Missing(
                "root is missing: nodes are namespaces; run the same command with sudo".to_owned(),
            ));
        }
        ensure_programs(&PROGRAMS)?;
        let app = std::path::absolute(&options.app);
        let app = app.map_err(Error::system(format!("find {}", options.app.display())))?;
        let topology = Topology::create(options.nodes)?;
        for node in topology.nodes() {
            add_default_route(&topology, node.number())?;
        }
        let directory = tempfile::Builder::new()
            .prefix(&topology.run().name("cluster"))
            .rand_bytes(0)
            .tempdir()
            .map_err(Error::system("make a directory for a cluster"))?;
        let home = Home {
            place: topology.fabric().place().clone(),
            address: topology.fabric().ipv4(),
        };
        let server_options = ApiServerOptions {
            controllers: true,
            flags: options.api_server_flags.clone(),
        };
        let api_server = ApiServer::start_at(binaries, &server_options, Some(&home))?;
        let forwarder = Forwarder::start(
            topology.fabric().namespace(),
            SocketAddr::new(home.address, API_SERVER_PORT),
        )?;
        let kubectl = outside_kubectl(binaries, &api_server, &forwarder, directory.path())?;
        let parts = NodeParts {
            binaries,
            api_server: &api_server,
            kube_proxy: options.kube_proxy,
            run: topology.run(),
            directory: directory.path(),
        };
        let nodes = topology.nodes().iter();
        let nodes = nodes
            .map(|host| Node::prepare(&parts, host))
            .collect::<Result<Vec<_>>>()?;
        let mut cluster = Self {
            nodes,
            _forwarder: forwarder,
            api_server,
            kubectl,
            topology,
            directory,
            app,
        };
        cluster.start(binaries)?;
        Ok(cluster)
    }

    fn start(&mut self, binaries: &Binaries) -> Result<()> {
        for node in &mut self.nodes {
            node.start(&self.app)?;
        }
        self.load_image(&Image::of_program(
            PAUSE_IMAGE,
            binaries.path("pause/pause")?,
        )?)?;
        self.load_image(&Image::of_program(
            DNS_IMAGE,
            binaries.path("coredns/coredns")?,
        )?)?;
        self.kubectl.apply(DNS)?;
        for node in &self.nodes {
            self.wait_until_ready(node.name())?;
        }
        self.wait_until_available("kube-system", "coredns")
    }

    /// kubectl as a member of `system:masters`, from this machine's own network.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The kubeconfig of a member of `system:masters`, for this machine's own network.
    pub fn kubeconfig(&self) -> &Path {
        self.kubectl.kubeconfig()
    }

    /// The control plane.
    pub fn api_server(&self) -> &ApiServer {
        &self.api_server
    }

    /// The namespaces that it runs in.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Files and logs of the nodes, a directory for each.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The names of its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(Node::name)
    }

    /// Gives an image to every node that is up.
    ///
    /// # Errors
    /// When it can't be packed, or a node refuses it.
    pub fn load_image(&self, image: &Image) -> Result<()> {
        let name = image.name.replace(['/', ':'], "-");
        let archive = self.directory.path().join(format!("{name}.tar"));
        let written = fs::write(&archive, image.pack()?.bytes);
        written.map_err(Error::system(format!("write {}", archive.display())))?;
        self.load_archive(&archive)
    }

    /// Gives an image that `docker save` or `cargo xtask images` wrote to every node that
    /// is up.
    ///
    /// # Errors
    /// When a node refuses it.
    pub fn load_archive(&self, archive: &Path) -> Result<()> {
        let mut up = self.nodes.iter().filter(|node| node.process_1().is_some());
        up.try_for_each(|node| node.load(archive))
    }

    /// Runs a program on a node, in all its namespaces, to its end.
    ///
    /// # Errors
    /// When the node is down, or the program fails or takes longer than `limit`.
    pub fn run_on(&self, node: &str, command_line: &[&str], limit: Duration) -> Result<String> {
        self.node(node)?.output(command_line, limit)
    }

    /// Process 1 of a node, as this machine numbers it; `None` while it is down.
    pub fn process_of(&self, node: &str) -> Option<u32> {
        self.node(node).ok()?.process_1()
    }

    /// Ends everything on a node at once, as a power failure would.
    ///
    /// # Errors
    /// When there is no such node, or something on it survives.
    pub fn crash_node(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        node.ok_or_else(|| no_node(name))?.crash()
    }

    /// Starts a crashed node: its disk is as it was, all else is new. Doesn't wait until
    /// Kubernetes calls it ready.
    ///
    /// # Errors
    /// When there is no such node, or it runs, or doesn't start.
    pub fn start_node(&mut self, name: &str) -> Result<()> {
        let number = self
            .topology
            .nodes()
            .iter()
            .find(|node| node.name == name)
            .ok_or_else(|| no_node(name))?
            .number();
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        let node = node.ok_or_else(|| no_node(name))?;
        if node.process_1().is_none() {
            self.topology.replace_namespace(number)?;
            add_default_route(&self.topology, number)?;
        }
        node.start(&self.app)
    }

    /// Waits until Kubernetes calls a node ready.
    ///
    /// # Errors
    /// When it doesn't in time.
    pub fn wait_until_ready(&self, node: &str) -> Result<()> {
        self.wait_for_condition(node, "True")
    }

    /// Waits until Kubernetes has noticed that a node is gone.
    ///
    /// # Errors
    /// When it doesn't in time.
    pub fn wait_until_lost(&self, node: &str) -> Result<()> {
        self.wait_for_condition(node, "Unknown")
    }

    fn wait_for_condition(&self, node: &str, wanted: &str) -> Result<()> {
        let path = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")]}";
        let status = format!("\"status\":\"{wanted}\"");
        let what = format!("{node} with Ready={wanted}");
        self.kubectl
            .wait(&what, PATIENCE, &["get", "node", node, path], |text| {
                text.contains(&status)
            })
            .map(drop)
    }

    /// Waits until a deployment has all its pods.
    ///
    /// # Errors
    /// When it hasn't in time.
    pub fn wait_until_available(&self, namespace: &str, deployment: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let deployment = format!("deployment/{deployment}");
        let line = ["rollout", "status", "-n", namespace, &deployment, &timeout];
        self.kubectl.run(&line).map(drop)
    }

    fn node(&self, name: &str) -> Result<&Node> {
        let node = self.nodes.iter().find(|node| node.name() == name);
        node.ok_or_else(|| no_node(name))
    }
}

/// Nothing is there, but without a route no packet gets as far as the rules that turn
/// a service's address into a pod's.
fn add_default_route(topology: &Topology, node: u8) -> Result<()> {
    let gateway = topology.fabric().ipv4();
    let namespace = topology.node(node)?.host.namespace();
    namespace.ip(&[format!("route add default via {gateway}")])
}

fn no_node(name: &str) -> Error {
    Error::Missing(format!("there is no node {name}"))
}

fn outside_kubectl(
    binaries: &Binaries,
    api_server: &ApiServer,
    forwarder: &Forwarder,
    directory: &Path,
) -> Result<Kubectl> {
    let endpoint = Endpoint {
        url: format!("https://{}", forwarder.address()),
        authority: api_server.authority().certificate(),
    };
    let admin = api_server
        .authority()
        .client("admin", &["system:masters"])?;
    let kubeconfig = directory.join("kubeconfig");
    endpoint.write_kubeconfig(&kubeconfig, Identity::Certificate(&admin))?;
    Ok(Kubectl::new(
        binaries.path("kubernetes/kubectl")?,
        &kubeconfig,
    ))
}
