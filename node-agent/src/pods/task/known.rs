//! Where connections of unknown pods are refused, the kernel is told of a pod that is known and may be
//! open: before it is captured, when that fails, and once it isn't captured any more.

use super::PodTask;
use crate::namespaces::{NamespaceIdentity, NamespaceLocation};
use crate::pods::error::CaptureError;
use crate::pods::state::Desired;

/// A pod that the kernel leaves alone while nothing else is said of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KnownPod {
    namespace: NamespaceIdentity,
    cookie: u64,
}

impl PodTask {
    /// Has the pod left alone from now on where that is wanted, or not any more.
    pub(super) fn settle_known(
        &mut self,
        desired: &Desired,
        location: &NamespaceLocation,
        found: Option<NamespaceIdentity>,
    ) {
        // What is said of it outlives the agent.
        if !self.node.redirect.refuses_unknown() || matches!(desired, Desired::Stopping { .. }) {
            return;
        }
        let wanted = found.filter(|_| may_be_open(desired));
        if self.known.map(|known| known.namespace) == wanted {
            return;
        }
        if let Some(known) = self.known.take()
            && let Err(error) = self.node.redirect.forget_known(known.cookie)
        {
            tracing::warn!(target: "agent", pod = %self.workload.name, %error, "the kernel goes on to leave a pod alone");
        }
        if let Some(namespace) = wanted {
            match self.leave_alone(location, namespace) {
                Ok(known) => self.known = Some(known),
                // The next step fails by it, too, and says so.
                Err(error) => {
                    tracing::debug!(target: "agent", pod = %self.workload.name, %error, "refused as an unknown pod");
                }
            }
        }
    }

    fn leave_alone(
        &self,
        location: &NamespaceLocation,
        found: NamespaceIdentity,
    ) -> Result<KnownPod, CaptureError> {
        let namespaces = &self.node.namespaces;
        namespaces.check(location, found, &self.uid)?;
        let namespace = namespaces.open(location, found)?;
        self.node.redirect.leave_alone(&namespace)?;
        Ok(KnownPod {
            namespace: found,
            cookie: namespace.cookie(),
        })
    }
}

/// True for a pod whose connections pass while it isn't captured.
fn may_be_open(desired: &Desired) -> bool {
    match desired {
        Desired::Enrolled(workload) => workload.refused_uncaptured().is_none(),
        Desired::Outside(_) => true,
        Desired::Gone | Desired::Stopping { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_model::egress::EgressMode;
    use weft_model::mtls::MtlsMode;
    use weft_model::workload::Workload;

    use super::*;
    use crate::pods::fixtures;

    #[test]
    fn only_a_pod_that_may_be_open_is_left_alone_where_unknown_ones_are_refused() {
        let pod = |mtls_mode, egress_mode| {
            Arc::new(Workload {
                mtls_mode,
                egress_mode,
                ..fixtures::workload("web")
            })
        };
        use EgressMode::{AllowAny, RegisteredOnly};
        use MtlsMode::{Permissive, Strict};
        for (desired, expected) in [
            (Desired::Enrolled(pod(Permissive, AllowAny)), true),
            (Desired::Enrolled(pod(Permissive, RegisteredOnly)), false),
            (Desired::Enrolled(pod(Strict, AllowAny)), false),
            (Desired::Outside(pod(Strict, AllowAny)), true),
            (Desired::Gone, false),
        ] {
            assert_eq!(may_be_open(&desired), expected, "{desired:?}");
        }
    }
}
