//! Puts a proxy together: what a node's agent, or a sidecar, starts.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use weft_model::workload::{Workload, WorkloadUid};
use weft_proto::v1::NodeCapture;

use crate::admin::{self, Pages, Readiness};
use crate::component::Component;
use crate::control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions};
use crate::discovery::{self, CaptureReports, DiscoveryOptions, DiscoveryStatus, NodeTrial};
use crate::identity::CertificateManager;
use crate::listen::PodProxy;
use crate::listen::workers::Workers;
use crate::node::Node;
use crate::settings::Settings;
use crate::sockets::Sockets;

/// What a proxy needs to be told at its start.
#[derive(Debug)]
pub struct RuntimeOptions {
    /// Name of the node that it serves.
    pub node: String,
    /// The one pod that it serves, where it is a sidecar: the control plane tells it what that
    /// one needs, and no more.
    pub pod: Option<WorkloadUid>,
    /// The control plane.
    pub control_plane: ControlPlaneOptions,
    /// Threads of the data path; one for each core when `None`.
    pub workers: Option<usize>,
    /// Limits and times of the data path.
    pub settings: Settings,
}

/// Why a proxy can't start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The operating system gives no threads.
    #[error("can't start threads: {0}")]
    Threads(io::Error),
    /// The control plane can't be used.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
}

/// A proxy that is put together; pods are added one by one.
#[derive(Debug)]
pub struct Runtime {
    /// What all pods share.
    pub node: Arc<Node>,
    /// Obtains and renews the pods' certificates.
    pub certificates: Arc<CertificateManager>,
    /// Which pods are captured, for the control plane to know.
    pub captures: CaptureReports,
    /// Conditions of the proxy's readiness.
    pub readiness: Arc<Readiness>,
    pod: Option<WorkloadUid>,
    node_capture: Option<NodeCapture>,
    control_plane: ControlPlane,
    workers: Workers,
    discovery: watch::Sender<DiscoveryStatus>,
}

impl Runtime {
    /// Puts a proxy together. Control traffic runs on the current tokio runtime, the data
    /// path on threads of its own.
    ///
    /// # Errors
    /// When there are no threads, or the control plane's address can't be used.
    pub fn new(options: RuntimeOptions) -> Result<Self, RuntimeError> {
        let control_plane = ControlPlane::new(options.control_plane)?;
        let workers = options.workers.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
        });
        let workers = Workers::start(workers).map_err(RuntimeError::Threads)?;
        let component = match options.pod {
            Some(_) => Component::Sidecar,
            None => Component::NodeAgent,
        };
        let node = Node::new(&options.node, component, options.settings);
        let node = Arc::new(node.with_control_plane(control_plane.clone()));
        let current = tokio::runtime::Handle::current();
        let certificates = Arc::clone(&node.certificates);
        Ok(Self {
            certificates: CertificateManager::new(control_plane.clone(), certificates, current),
            node,
            captures: CaptureReports::default(),
            readiness: Arc::default(),
            pod: options.pod,
            node_capture: None,
            control_plane,
            workers,
            discovery: watch::Sender::default(),
        })
    }

    /// Tells the control plane what the node lets this agent do.
    #[must_use]
    pub fn with_node_capture(self, trial: &NodeTrial) -> Self {
        Self {
            node_capture: Some(trial.to_message()),
            ..self
        }
    }

    /// Threads of the data path.
    pub fn workers(&self) -> usize {
        self.workers.count()
    }

    /// How things stand with the control plane.
    pub fn discovery(&self) -> watch::Receiver<DiscoveryStatus> {
        self.discovery.subscribe()
    }

    /// Follows the control plane for ever, in a task.
    pub fn follow_control_plane(&self) -> JoinHandle<()> {
        let options = DiscoveryOptions {
            node: Arc::clone(&self.node.name),
            pod: self.pod.clone(),
            control_plane: self.control_plane.clone(),
            store: Arc::clone(&self.node.store),
            captures: self.captures.clone(),
            node_capture: self.node_capture.clone(),
        };
        tokio::spawn(discovery::run(options, self.discovery.clone()))
    }

    /// Starts the proxy of one more pod, on its home worker.
    ///
    /// # Errors
    /// When a listener can't be opened.
    pub fn start_pod(
        &self,
        workload: Arc<Workload>,
        sockets: Arc<dyn Sockets>,
    ) -> io::Result<PodProxy> {
        let worker = self.workers.assign();
        PodProxy::start(Arc::clone(&self.node), workload, sockets, worker)
    }

    /// The pages for monitoring, which tell nothing about traffic.
    pub fn monitoring_pages(&self) -> Pages {
        admin::monitoring(Arc::clone(&self.readiness), &self.node.telemetry)
    }

    /// All pages, for the operator on the node. `config` is asked at each request.
    pub fn admin_pages(
        &self,
        config: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Pages {
        let monitoring = self.monitoring_pages();
        admin::all(monitoring, &self.node, self.pod.clone(), config)
    }
}
