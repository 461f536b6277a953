//! A node whose kernel doesn't let its agent capture. The agent says so, to the control plane for
//! pods that are made from now on, and of each pod that is there; it doesn't end, or nobody would
//! know why those have no proxy. Where an agent before it did capture, it isn't ready, so that a rollout
//! of such agents stops.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;
use weft_proxy::admin::{Pages, Readiness};
use weft_proxy::discovery::{NodeTrial, PodCaptureState};
use weft_proxy::runtime::Runtime;

use crate::admin::AdminPages;
use crate::namespaces::NamespaceError;
use crate::redirect::{Capabilities, RedirectError};

/// An agent without kernel programs.
pub(super) struct IncapableNode {
    runtime: Runtime,
    reason: Arc<str>,
}

/// The reason is the node's, and stays as long as its kernel: somebody has to know it. An agent that
/// lacks rights or memory ends instead, so that a rollout of such agents stops at the first.
pub(super) fn is_of_node(error: &RedirectError) -> bool {
    let is_refused = match error {
        RedirectError::Incapable(_)
        | RedirectError::Object { .. }
        | RedirectError::Program { .. } => true,
        // Linux before 5.14.
        RedirectError::Namespace(NamespaceError::Cookie { error, .. }) => {
            error.raw_os_error() == Some(libc::ENOPROTOOPT)
        }
        _ => false,
    };
    is_refused && !error.is_of_process()
}

/// The condition of the readiness of an agent without programs.
const PROGRAMS: &str = "kernel programs";

/// A node that no agent has captured on is as good as it gets.
fn judge(readiness: &Readiness, has_captured: bool) {
    match has_captured {
        true => readiness.unmet(
            PROGRAMS,
            "the kernel refuses them, and took those of the agent before, which has left pods of \
             this node refused: go back to its version",
        ),
        false => readiness.met(PROGRAMS),
    }
}

/// What the control plane is told of a trial.
pub(super) fn node_trial(capabilities: &Capabilities, failure: Option<String>) -> NodeTrial {
    let programs = capabilities.programs();
    let programs = programs.map(|(name, failure)| (name.to_owned(), failure.map(str::to_owned)));
    NodeTrial {
        programs: programs.collect(),
        failure,
    }
}

impl IncapableNode {
    /// An agent before it may have captured here, since the node's start.
    pub(super) fn new(runtime: Runtime, error: &RedirectError, has_captured: bool) -> Self {
        match has_captured {
            true => {
                tracing::error!(%error, "this agent can't capture connections, and the one before did: go back to its version");
            }
            false => {
                tracing::error!(%error, "this node can't capture connections: its pods need sidecars");
            }
        }
        judge(&runtime.readiness, has_captured);
        let reason = error.to_string();
        let trial = match error {
            RedirectError::Incapable(capabilities) => {
                node_trial(capabilities, Some(reason.clone()))
            }
            _ => node_trial(&Capabilities::default(), Some(reason.clone())),
        };
        let reason = format!(
            "{reason}; make the pod anew, so that it gets a sidecar (its mode, weft.dev/mode, has to \
             be `auto` or `sidecar`)"
        );
        Self {
            runtime: runtime.with_node_capture(&trial),
            reason: reason.into(),
        }
    }

    pub(super) fn pages(&self) -> AdminPages {
        let (node, reason) = (self.runtime.node.name.to_string(), self.reason.to_string());
        AdminPages {
            probes: Pages::new(Arc::clone(&self.runtime.readiness)),
            monitoring: self.runtime.monitoring_pages(),
            all: self
                .runtime
                .admin_pages(move || json!({ "node": node, "incapable": reason })),
        }
    }

    /// Says of each pod that should be captured that it isn't, until the agent is to stop.
    pub(super) async fn report(&self, mut stop: watch::Receiver<bool>) {
        let runtime = &self.runtime;
        let mut changes = runtime.node.store.subscribe();
        let mut discovery = runtime.discovery();
        runtime.follow_control_plane();
        loop {
            changes.mark_unchanged();
            let is_synchronized = discovery.borrow_and_update().synchronized;
            self.report_pods();
            if is_synchronized {
                runtime.captures.complete();
            }
            // The senders outlive this.
            tokio::select! {
                _ = changes.changed() => {}
                _ = discovery.changed() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn report_pods(&self) {
        let runtime = &self.runtime;
        let mesh = runtime.node.store.snapshot();
        for workload in mesh.workloads() {
            if *workload.node != *runtime.node.name {
                continue;
            }
            match workload.enrolment.is_enrolled() && !workload.is_sidecar {
                true => {
                    let failed = PodCaptureState::Failed(Arc::clone(&self.reason));
                    runtime.captures.set(&workload.uid, failed);
                }
                false => runtime.captures.release(&workload.uid),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::programs::ProgramError;
    use aya::sys::SyscallError;

    use super::*;

    #[test]
    fn an_agent_without_programs_is_ready_where_none_has_captured_before() {
        for has_captured in [false, true] {
            let readiness = Readiness::default();
            judge(&readiness, has_captured);
            assert_eq!(readiness.is_ready(), !has_captured);
        }
    }

    #[test]
    fn only_what_is_the_nodes_own_keeps_an_agent_from_serving_it() {
        assert!(is_of_node(&RedirectError::Incapable(
            Capabilities::default()
        )));
        let busy = RedirectError::System {
            action: "make a scratch network namespace",
            error: io::Error::from(io::ErrorKind::OutOfMemory),
        };
        assert!(!is_of_node(&busy));
        let program = |number| RedirectError::Program {
            program: "sockops",
            error: Box::new(ProgramError::SyscallError(SyscallError {
                call: "bpf_prog_load",
                io_error: io::Error::from_raw_os_error(number),
            })),
        };
        for number in [libc::EPERM, libc::ENOMEM, libc::EAGAIN] {
            assert!(!is_of_node(&program(number)), "{number}");
        }
        for number in [libc::EACCES, libc::EINVAL] {
            assert!(is_of_node(&program(number)), "{number}");
        }
        assert!(!is_of_node(&RedirectError::NoObject));
        let cookie = |number| {
            RedirectError::Namespace(NamespaceError::Cookie {
                path: "/proc/thread-self/ns/net".into(),
                error: io::Error::from_raw_os_error(number),
            })
        };
        assert!(is_of_node(&cookie(libc::ENOPROTOOPT)), "before Linux 5.14");
        assert!(!is_of_node(&cookie(libc::EMFILE)));
    }
}
