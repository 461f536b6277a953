//! The parts of the agent that all pods of the node share.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use weft_model::workload::RefusedConnections;
use weft_proxy::runtime::Runtime;

use super::held::HoldingPods;
use super::status::PodStatuses;
use crate::blocking::BlockingWork;
use crate::draining::DrainingAgents;
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
    /// The pods whose applications may wait in `connect()`.
    pub(crate) holding: Arc<HoldingPods>,
    /// The status of every pod.
    pub(crate) statuses: PodStatuses,
    /// Work in the kernel that may take its time.
    pub(crate) blocking: BlockingWork,
    /// Agents that have handed over to this one.
    pub(crate) draining: DrainingAgents,
    /// The proxies of released pods that still take connections.
    pub(crate) accepting: TaskTracker,
    /// The proxies of released pods, which wait for their connections to end.
    pub(crate) drains: TaskTracker,
    pub(crate) settings: PodSettings,
}

/// Settings that all pods of the node follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodSettings {
    /// The time that a released pod's connections have to end.
    pub(crate) drain_deadline: Duration,
    /// The programs are pinned: pods that may not be open are refused when the agent ends.
    pub(crate) is_pinned: bool,
    /// Connections from before the capture are ended also where they may go on.
    pub(crate) ends_earlier_connections: bool,
}

impl PodSettings {
    /// The connections from before its capture that a pod loses, where some of it are refused
    /// while it isn't captured.
    pub(crate) fn earlier_connections_to_end(
        &self,
        refused: Option<RefusedConnections>,
    ) -> Option<RefusedConnections> {
        match self.ends_earlier_connections {
            true => Some(RefusedConnections::Both),
            false => refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_may_be_open_keeps_its_earlier_connections_unless_the_agent_is_told_to_end_them() {
        let settings = |ends_earlier_connections| PodSettings {
            drain_deadline: Duration::ZERO,
            is_pinned: true,
            ends_earlier_connections,
        };
        use RefusedConnections::{Both, Inbound, Outbound};
        for refused in [None, Some(Inbound), Some(Outbound), Some(Both)] {
            assert_eq!(settings(false).earlier_connections_to_end(refused), refused);
            assert_eq!(
                settings(true).earlier_connections_to_end(refused),
                Some(Both)
            );
        }
    }
}
