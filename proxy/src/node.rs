//! What all pods share that this process serves.

use std::sync::Arc;

use crate::control_plane::ControlPlane;
use crate::identity::CertificateStore;
use crate::settings::Settings;
use crate::store::Store;
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
    /// What is known of endpoints: latency, load, ejections.
    pub(crate) endpoints: EndpointStates,
    /// Whose turn it is among a rule's backends.
    pub(crate) sequences: RuleSequences,
    /// TLS sessions with external services.
    pub(crate) originations: Arc<Originations>,
    /// The pods themselves, as each other's destinations.
    pub(crate) neighbours: Arc<Neighbours>,
}

impl Node {
    /// A node that serves no pod yet, and knows no control plane.
    pub fn new(name: &str, settings: Settings) -> Self {
        let telemetry = Telemetry::default();
        Self {
            name: name.into(),
            settings,
            store: Arc::new(Store::new()),
            certificates: Arc::default(),
            control_plane: None,
            endpoints: EndpointStates::new(Arc::clone(telemetry.metrics())),
            telemetry,
            sequences: RuleSequences::default(),
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
