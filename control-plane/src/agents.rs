//! Agents' streams, as `/agents` shows them. What they are told is not known here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use weft_proto::v1::{Acknowledge, DiscoveryResponse, Resource, ResourceKind, resource};

use crate::captures::{CaptureReport, PodCaptureState};

/// The most resources, and the most pods, that are listed of one agent: it may name any.
const MAX_LISTED: usize = 1000;

/// One agent's streams.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct AgentStatus {
    /// Streams that it has open; more than one for a moment after a reconnect.
    pub(crate) streams: usize,
    /// The last response that it was sent, counted within its stream.
    pub(crate) sent: u64,
    /// The last response that it answered.
    pub(crate) acknowledged: u64,
    /// Resources that it can't use: kind and name, and why.
    pub(crate) rejected: BTreeMap<String, String>,
    /// Pods that it could not capture, and why.
    pub(crate) failed_pods: BTreeMap<String, String>,
    /// It named more than are listed, which was logged.
    #[serde(skip)]
    overflowed: bool,
}

impl AgentStatus {
    /// Lists a rejected resource, if there is room.
    fn reject(&mut self, node: &str, name: String, why: String) {
        let is_listed = list(&mut self.rejected, name, why);
        self.log_overflow(node, is_listed);
    }

    /// Lists a pod that could not be captured, if there is room.
    fn fail_pod(&mut self, node: &str, uid: String, why: String) {
        let is_listed = list(&mut self.failed_pods, uid, why);
        self.log_overflow(node, is_listed);
    }

    /// Says once while it is connected that something isn't listed.
    fn log_overflow(&mut self, node: &str, is_listed: bool) {
        if !is_listed && !std::mem::replace(&mut self.overflowed, true) {
            tracing::warn!(
                node,
                listed = MAX_LISTED,
                "an agent names more rejected resources or failed pods than are listed"
            );
        }
    }
}

/// Puts an entry into a list of an agent. False when it is new and the list is full.
fn list(entries: &mut BTreeMap<String, String>, name: String, why: String) -> bool {
    let has_room = entries.len() < MAX_LISTED || entries.contains_key(&name);
    if has_room {
        entries.insert(name, why);
    }
    has_room
}

/// All agents that have connected since this process started, by their node. Its lock is
/// held briefly, never across a wait.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    by_node: Mutex<BTreeMap<String, AgentStatus>>,
}

impl Agents {
    /// An agent has a new stream.
    pub(crate) fn stream_opened(&self, node: &str) {
        self.update(node, |agent| agent.streams += 1);
    }

    /// An agent's stream has ended. After the last, nothing that it said counts any more:
    /// it says so again once it is back.
    pub(crate) fn stream_closed(&self, node: &str) {
        self.update(node, |agent| {
            agent.streams = agent.streams.saturating_sub(1);
            if agent.streams == 0 {
                agent.rejected.clear();
                agent.failed_pods.clear();
                agent.overflowed = false;
            }
        });
    }

    /// A sidecar's stream has ended. Its pod may never come back, and the next one has another
    /// name: nothing is kept of it after its last.
    pub(crate) fn sidecar_stream_closed(&self, pod: &str) {
        self.stream_closed(pod);
        let mut agents = self.lock();
        if agents.get(pod).is_some_and(|sidecar| sidecar.streams == 0) {
            agents.remove(pod);
        }
    }

    /// An agent is being sent a response. What it rejected before is no matter any more
    /// once there is something newer.
    pub(crate) fn response_sent(&self, node: &str, response: &DiscoveryResponse) {
        self.update(node, |agent| {
            agent.sent = response.sequence;
            if agent.rejected.is_empty() {
                return;
            }
            for resource in &response.changed {
                agent
                    .rejected
                    .remove(&label(kind_of(resource), &resource.name));
            }
            for gone in &response.removed {
                agent.rejected.remove(&label(gone.kind(), &gone.name));
            }
        });
    }

    /// An agent has answered a response.
    pub(crate) fn response_acknowledged(&self, node: &str, answer: Acknowledge) {
        self.update(node, |agent| {
            agent.acknowledged = answer.sequence;
            for rejection in answer.rejected {
                let name = label(rejection.kind(), &rejection.name);
                agent.reject(node, name, rejection.reason);
            }
        });
    }

    /// An agent has reported pods of its node, or a sidecar its own.
    pub(crate) fn pods_reported(&self, name: &str, report: &CaptureReport) {
        self.update(name, |agent| {
            for (uid, state) in &report.pods {
                match state {
                    PodCaptureState::Failed(why) => {
                        agent.fail_pod(name, uid.to_string(), why.clone());
                    }
                    PodCaptureState::Captured | PodCaptureState::Released => {
                        agent.failed_pods.remove(uid.as_str());
                    }
                }
            }
        });
    }

    /// The status of every agent.
    pub(crate) fn statuses(&self) -> BTreeMap<String, AgentStatus> {
        self.lock().clone()
    }

    fn update(&self, node: &str, change: impl FnOnce(&mut AgentStatus)) {
        let mut agents = self.lock();
        match agents.get_mut(node) {
            Some(agent) => change(agent),
            None => change(agents.entry(node.to_owned()).or_default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AgentStatus>> {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a resource in `rejected`.
pub(crate) fn label(kind: ResourceKind, name: &str) -> String {
    format!("{} {name}", kind.as_str_name())
}

fn kind_of(resource: &Resource) -> ResourceKind {
    match &resource.resource {
        Some(resource::Resource::Workload(_)) => ResourceKind::Workload,
        Some(resource::Resource::Service(_)) => ResourceKind::Service,
        Some(resource::Resource::Endpoint(_)) => ResourceKind::Endpoint,
        Some(resource::Resource::Route(_)) => ResourceKind::Route,
        Some(resource::Resource::TrafficPolicy(_)) => ResourceKind::TrafficPolicy,
        Some(resource::Resource::ExternalService(_)) => ResourceKind::ExternalService,
        Some(resource::Resource::Node(_)) => ResourceKind::Node,
        Some(resource::Resource::NetworkPolicy(_)) => ResourceKind::NetworkPolicy,
        Some(resource::Resource::AuthorizationPolicy(_)) => ResourceKind::AuthorizationPolicy,
        Some(resource::Resource::RevocationList(_)) => ResourceKind::RevocationList,
        None => ResourceKind::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use weft_model::workload::WorkloadUid;
    use weft_proto::v1::{Endpoint, Rejection, ResourceVersion};

    use super::*;

    fn rejection(kind: ResourceKind, name: &str) -> Rejection {
        Rejection {
            kind: kind.into(),
            name: name.into(),
            version: String::new(),
            reason: "no such mode".into(),
        }
    }

    fn status(agents: &Agents) -> AgentStatus {
        agents.statuses().remove("node-1").unwrap()
    }

    #[test]
    fn a_rejection_counts_until_something_newer_of_that_name_and_kind_is_sent() {
        let agents = Agents::default();
        let answer = Acknowledge {
            sequence: 1,
            rejected: vec![
                rejection(ResourceKind::Endpoint, "shop/web"),
                rejection(ResourceKind::Service, "shop/web"),
                rejection(ResourceKind::Route, "shop/web"),
            ],
        };
        agents.response_acknowledged("node-1", answer);
        let changed = Resource {
            name: "shop/web".into(),
            version: "2".into(),
            resource: Some(resource::Resource::Endpoint(Endpoint::default())),
        };
        let removed = ResourceVersion {
            kind: ResourceKind::Route.into(),
            name: "shop/web".into(),
            version: String::new(),
        };
        let response = DiscoveryResponse {
            sequence: 2,
            changed: vec![changed],
            removed: vec![removed],
            ..Default::default()
        };
        agents.response_sent("node-1", &response);
        let status = status(&agents);
        assert_eq!((status.sent, status.acknowledged), (2, 1));
        let left: Vec<_> = status.rejected.into_keys().collect();
        assert_eq!(left, ["RESOURCE_KIND_SERVICE shop/web"]);
    }

    #[test]
    fn a_failed_pod_is_listed_until_it_is_captured_or_released() {
        let agents = Agents::default();
        let report = |states: &[(&str, PodCaptureState)]| {
            let pods = states.iter();
            let pods = pods.map(|(uid, state)| (WorkloadUid::from(*uid), state.clone()));
            agents.pods_reported(
                "node-1",
                &CaptureReport {
                    node: "node-1".into(),
                    pods: pods.collect(),
                    complete: None,
                },
            );
        };
        let failed = || PodCaptureState::Failed("no network namespace".into());
        report(&[("a", failed()), ("b", failed()), ("c", failed())]);
        report(&[
            ("a", PodCaptureState::Captured),
            ("b", PodCaptureState::Released),
        ]);
        let failed: Vec<_> = status(&agents).failed_pods.into_iter().collect();
        assert_eq!(failed, [("c".into(), "no network namespace".into())]);
    }

    #[test]
    fn an_agent_can_list_only_so_much_and_only_while_it_is_connected() {
        let agents = Agents::default();
        agents.stream_opened("node-1");
        let numbers = 0..MAX_LISTED + 5;
        let rejected = numbers.clone();
        let rejected =
            rejected.map(|number| rejection(ResourceKind::Route, &format!("shop/{number}")));
        let answer = Acknowledge {
            sequence: 1,
            rejected: rejected.collect(),
        };
        agents.response_acknowledged("node-1", answer);
        let failed = || PodCaptureState::Failed("no network namespace".into());
        let pods = numbers.map(|number| (number.to_string().as_str().into(), failed()));
        agents.pods_reported(
            "node-1",
            &CaptureReport {
                node: "node-1".into(),
                pods: pods.collect(),
                complete: None,
            },
        );
        let listed = || {
            let status = status(&agents);
            (status.rejected.len(), status.failed_pods.len())
        };
        assert_eq!(listed(), (MAX_LISTED, MAX_LISTED));
        agents.stream_closed("node-1");
        assert_eq!(listed(), (0, 0));
    }

    #[test]
    fn streams_are_counted_and_their_agent_stays_known() {
        let agents = Agents::default();
        for _ in 0..2 {
            agents.stream_opened("node-1");
        }
        agents.stream_closed("node-1");
        assert_eq!(status(&agents).streams, 1);
        agents.stream_closed("node-1");
        agents.stream_closed("node-1");
        assert_eq!(status(&agents).streams, 0);
    }
}
