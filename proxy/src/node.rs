//! What all pods share that this process serves.

use std::sync::Arc;

use crate::admission::{DescriptorAccount, SpareDescriptor};
use crate::component::Component;
use crate::control_plane::ControlPlane;
use crate::identity::CertificateStore;
use crate::memory::MemoryAccount;
use crate::settings::Settings;
use crate::store::Store;
use crate::sync::SharedTurn;
use crate::telemetry::Telemetry;
use crate::traffic::{EndpointStates, RuleSequences};
use crate::upstream::{Neighbours, Originations};

/// What all pods share that this process serves: a node's, or a sidecar's one.
#[derive(Debug)]
pub struct Node {
    /// The node's name.
    pub name: Arc<str>,
    /// Limits and times of the data path.
    pub settings: Settings,
    /// The mesh as it is now.
    pub store: Arc<Store>,
    /// The certificates of the pods.
    pub certificates: Arc<CertificateStore>,
    /// Metrics, open connections, access log.
    pub telemetry: Telemetry,
    /// Answers about rate limits that name no service of their own.
    pub control_plane: Option<ControlPlane>,
    /// What connections have of the process's descriptors.
    pub(crate) descriptors: Arc<DescriptorAccount>,
    /// What connections hold of memory.
    pub(crate) memory: Arc<MemoryAccount>,
    /// Refuses connections when there is no other descriptor left.
    pub(crate) spare_descriptor: SpareDescriptor,
    /// What is known of endpoints: latency, load, ejections.
    pub(crate) endpoints: EndpointStates,
    /// Whose turn it is among a rule's backends.
    pub(crate) sequences: RuleSequences,
    /// Whose turn it is to forget what no pod needs any more.
    pub(crate) upkeep: SharedTurn,
    /// TLS sessions with external services.
    pub(crate) originations: Arc<Originations>,
    /// The pods themselves, as each other's destinations.
    pub(crate) neighbours: Arc<Neighbours>,
}

impl Node {
    /// A node that serves no pod yet, and knows no control plane.
    pub fn new(name: &str, component: Component, settings: Settings) -> Self {
        let (per_pod, per_node) = (settings.series_per_pod, settings.series_per_node);
        let telemetry = Telemetry::new(component, per_pod, per_node);
        Self {
            name: name.into(),
            settings,
            store: Arc::new(Store::new()),
            certificates: Arc::default(),
            control_plane: None,
            memory: Arc::new(MemoryAccount::new(settings.buffer_bytes)),
            spare_descriptor: SpareDescriptor::default(),
            descriptors: Arc::new(DescriptorAccount::new(
                settings.open_files.unwrap_or(usize::MAX),
            )),
            endpoints: EndpointStates::new(Arc::clone(telemetry.metrics())),
            telemetry,
            sequences: RuleSequences::default(),
            upkeep: SharedTurn::default(),
            originations: Arc::default(),
            neighbours: Arc::default(),
        }
    }

    /// The same, with a control plane that answers about rate limits.
    #[must_use]
    pub fn with_control_plane(self, control_plane: ControlPlane) -> Self {
        Self {
            control_plane: Some(control_plane),
            ..self
        }
    }
}
