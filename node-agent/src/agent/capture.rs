//! What it takes to capture one pod: namespace, certificate, proxy, kernel; in this
//! order, and undone in the reverse one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use weft_model::SpiffeId;
use weft_model::workload::Workload;
use weft_proxy::config::captures::CaptureReports;
use weft_proxy::identity::{CertificateManager, IdentityInUse};
use weft_proxy::proxy::PodProxy;
use weft_proxy::shared::Shared;
use weft_proxy::workers::Workers;

use super::lifecycle::{NamespaceIdentity, namespace_name};
use super::namespaces::{Claim, NamespaceError, Namespaces};
use super::table::PodTable;
use crate::netns::NetworkNamespace;
use crate::pod_net::PodNet;
use crate::redirect::{CapturedPod, PodCapture, Redirect, RedirectError};

/// How long a pod's first certificate may take before that counts as a failure.
const CERTIFICATE_PATIENCE: Duration = Duration::from_secs(5);

/// Why a pod isn't captured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("network namespace {name}: {error}")]
    Open { name: String, error: std::io::Error },
    #[error("no certificate for {identity}: {reason}")]
    Certificate { identity: SpiffeId, reason: String },
    #[error("can't listen in the pod's network namespace: {0}")]
    Proxy(std::io::Error),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
}

/// Everything that capturing pods takes, for the whole node.
#[derive(Debug)]
pub(crate) struct Capturer {
    pub(crate) redirect: Redirect,
    pub(crate) shared: Arc<Shared<PodNet>>,
    pub(crate) workers: Workers,
    pub(crate) certificates: Arc<CertificateManager>,
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) reports: CaptureReports,
    pub(crate) table: PodTable,
    pub(crate) drain_deadline: Duration,
    /// How many proxies of released pods still wait for their connections to end.
    pub(crate) draining: watch::Sender<usize>,
    /// Told whenever a pod's task has ended.
    pub(crate) ended: Notify,
}
