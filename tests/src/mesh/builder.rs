//! What a mesh is made of, and how it is started.

use std::path::PathBuf;

use weft_provision::prerequisites;

use super::agent::{Agent, AgentOptions};
use super::binaries::Binaries;
use super::control_plane::ControlPlane;
use super::running::{Mesh, write_pod};
use super::sidecar::Sidecar;
use crate::error::{Error, Result};
use crate::manifest::{Manifests, PodSpec, ServiceSpec, Shape};
use crate::run::collect_leftovers;
use crate::topology::Topology;

/// What a mesh is made of before it starts.
#[derive(Debug)]
pub struct MeshBuilder {
    nodes: u8,
    pods: Vec<PodSpec>,
    services: Vec<ServiceSpec>,
    mtls_mode: &'static str,
    leaf_lifetime: Option<&'static str>,
    agents: AgentOptions,
    binaries: Option<PathBuf>,
}

impl MeshBuilder {
    /// A mesh on that many nodes.
    pub fn new(nodes: u8) -> Self {
        Self {
            nodes,
            pods: Vec::new(),
            services: Vec::new(),
            mtls_mode: "Permissive",
            leaf_lifetime: None,
            agents: AgentOptions::default(),
            binaries: None,
        }
    }

    /// Adds a pod.
    #[must_use]
    pub fn pod(mut self, pod: PodSpec) -> Self {
        self.pods.push(pod);
        self
    }

    /// Adds a service with cluster addresses, or a headless one without; ports are the
    /// service's and the pods'.
    #[must_use]
    pub fn service(
        self,
        name: &str,
        cluster_ips: &[&str],
        app: &str,
        ports: &[(u16, u16)],
    ) -> Self {
        self.service_of_protocol("tcp", name, cluster_ips, app, ports)
    }

    /// Adds a service whose ports are declared as HTTP.
    #[must_use]
    pub fn http_service(
        self,
        name: &str,
        cluster_ips: &[&str],
        app: &str,
        ports: &[(u16, u16)],
    ) -> Self {
        self.service_of_protocol("http", name, cluster_ips, app, ports)
    }

    /// Adds a service whose ports are declared as of a protocol, such as `grpc`.
    #[must_use]
    pub fn service_of_protocol(
        mut self,
        protocol: &'static str,
        name: &str,
        cluster_ips: &[&str],
        app: &str,
        ports: &[(u16, u16)],
    ) -> Self {
        let cluster_ips = cluster_ips.iter().map(ToString::to_string).collect();
        let (name, app, ports) = (name.to_owned(), app.to_owned(), ports.to_vec());
        self.services.push(ServiceSpec {
            name,
            cluster_ips,
            app,
            ports,
            protocol,
        });
        self
    }

    /// Makes mutual TLS mandatory in the whole mesh.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.mtls_mode = "Strict";
        self
    }

    /// How long certificates live, such as `30s`.
    #[must_use]
    pub fn leaf_lifetime(mut self, lifetime: &'static str) -> Self {
        self.leaf_lifetime = Some(lifetime);
        self
    }

    /// How the agents are started.
    #[must_use]
    pub fn agents(mut self, options: AgentOptions) -> Self {
        self.agents = options;
        self
    }

    /// Where the programs are, when not beside the one that runs.
    #[must_use]
    pub fn binaries(mut self, directory: PathBuf) -> Self {
        self.binaries = Some(directory);
        self
    }

    /// Starts it all, and waits until every opted-in pod is captured and every agent
    /// knows it.
    ///
    /// # Errors
    /// When anything of that fails; nothing is left behind then.
    pub fn start(self) -> Result<Mesh> {
        if let Some(missing) = prerequisites::missing() {
            return Err(Error::Missing(missing));
        }
        collect_leftovers();
        let binaries = Binaries::find(self.binaries.as_deref())?;
        let mut topology = Topology::create(self.nodes)?;
        let directory = tempfile::Builder::new()
            .prefix(&format!("{}-", topology.run().name("")))
            .tempdir()
            .map_err(Error::system("make a temporary directory"))?;
        let manifests = Manifests::create(directory.path().join("manifests"))?;
        manifests.write_mesh_config(self.mtls_mode)?;
        for pod in &self.pods {
            write_pod(&mut topology, &manifests, pod)?;
        }
        for service in &self.services {
            manifests.write_service(service)?;
        }
        let control_plane = ControlPlane::start(
            &binaries,
            &topology,
            &manifests,
            directory.path(),
            self.leaf_lifetime,
        )?;
        let start = |node| Agent::start(&binaries, &topology, node, &control_plane, &self.agents);
        let agents: Result<_> = topology.nodes().iter().map(start).collect();
        let with_sidecar = self.pods.iter().filter(|pod| pod.shape == Shape::Sidecar);
        let start = |pod: &PodSpec| Sidecar::start(&binaries, &topology, &control_plane, pod);
        let sidecars: Result<_> = with_sidecar.map(start).collect();
        let mut mesh = Mesh {
            apps: Vec::new(),
            sidecars: sidecars?,
            agents: agents?,
            control_plane,
            topology,
            manifests,
            pods: self.pods,
            binaries,
            directory,
        };
        mesh.wait_ready().inspect_err(|_| mesh.show_logs())?;
        Ok(mesh)
    }
}
