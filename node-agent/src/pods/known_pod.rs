//! A pod that is known and may be open, where connections of unknown pods are refused: the kernel
//! leaves it alone whenever nothing else is said of it.

use weft_model::workload::Workload;

use super::context::NodeContext;
use super::error::CaptureError;
use super::state::{Desired, InNamespace};
use crate::namespaces::{NamespaceIdentity, NamespaceLocation};
use crate::redirect::RedirectError;

/// A pod that the kernel leaves alone before it is captured, when that fails, and once it isn't
/// captured any more.
#[derive(Debug)]
pub(crate) struct KnownPod {
    namespace: NamespaceIdentity,
    cookie: u64,
}

impl KnownPod {
    /// Has the namespace that was found for the pod left alone.
    ///
    /// # Errors
    /// When it can't be opened or the kernel refuses.
    pub(crate) fn leave_alone(
        node: &NodeContext,
        workload: &Workload,
        found: NamespaceIdentity,
    ) -> Result<Self, CaptureError> {
        let location = NamespaceLocation::for_workload(workload);
        node.namespaces.check(&location, found, &workload.uid)?;
        let namespace = node.namespaces.open(&location, found)?;
        node.redirect.leave_alone(&namespace)?;
        Ok(Self {
            namespace: found,
            cookie: namespace.cookie(),
        })
    }

    /// Makes it unknown again, where nothing else is said of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn forget(self, node: &NodeContext) -> Result<(), RedirectError> {
        node.redirect.forget_known(self.cookie)
    }
}

impl InNamespace for KnownPod {
    fn namespace(&self) -> NamespaceIdentity {
        self.namespace
    }
}

/// True for a pod whose connections pass while it isn't captured.
pub(crate) fn may_be_open(desired: &Desired) -> bool {
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
