//! The parts of the agent that all pods of the node share.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use weft_proxy::runtime::Runtime;

use super::status::PodStatuses;
use crate::namespaces::PodNamespaces;
use crate::redirect::Redirect;

/// The parts of the agent that all pods of the node share.
#[derive(Debug)]
pub(crate) struct NodeContext {
    /// Starts the pods' proxies.
    pub(crate) runtime: Runtime,
    /// Hands the pods' connections to them.
    pub(crate) redirect: Arc<Redirect>,
    /// Finds the pods' network namespaces.
    pub(crate) namespaces: Arc<PodNamespaces>,
    /// The status of every pod.
    pub(crate) statuses: PodStatuses,
    /// The proxies of released pods, which wait for their connections to end.
    pub(crate) drains: TaskTracker,
    pub(crate) settings: PodSettings,
}

/// Settings that all pods of the node follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodSettings {
    /// The time that a released pod's connections have to end.
    pub(crate) drain_deadline: Duration,
    /// The programs are pinned: strict pods stay captured when the agent ends.
    pub(crate) is_pinned: bool,
}
