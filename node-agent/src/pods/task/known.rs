//! Where connections of unknown pods are refused, a pod's task tells the kernel whether it is known and
//! may be open.

use super::PodTask;
use crate::namespaces::NamespaceIdentity;
use crate::pods::known_pod::{KnownPod, may_be_open};
use crate::pods::state::{Desired, InNamespace};

impl PodTask {
    /// Has the pod left alone from now on where that is wanted, or not any more.
    pub(super) fn settle_known(&mut self, desired: &Desired, found: Option<NamespaceIdentity>) {
        let node = &self.node;
        // What is said of it outlives the agent.
        if !node.redirect.refuses_unknown() || matches!(desired, Desired::Stopping { .. }) {
            return;
        }
        let wanted = found.filter(|_| may_be_open(desired));
        if self.known.as_ref().map(InNamespace::namespace) == wanted {
            return;
        }
        if let Some(known) = self.known.take()
            && let Err(error) = known.forget(node)
        {
            tracing::warn!(target: "agent", pod = %self.workload.name, %error, "the kernel goes on to leave a pod alone");
        }
        let Some(found) = wanted else { return };
        match KnownPod::leave_alone(node, &self.workload, found) {
            Ok(known) => self.known = Some(known),
            // The next step fails by it, too, and says so.
            Err(error) => {
                tracing::debug!(target: "agent", pod = %self.workload.name, %error, "refused as an unknown pod");
            }
        }
    }
}
