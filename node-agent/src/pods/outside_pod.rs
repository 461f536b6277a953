//! A pod that is left alone.

use weft_model::workload::Workload;

use super::context::NodeContext;
use super::error::CaptureError;
use super::state::InNamespace;
use crate::namespaces::{NamespaceIdentity, NamespaceLocation, NetworkNamespace};

/// A pod whose namespace is marked as outside of the mesh: its connections pass also where
/// those of unknown pods are refused.
#[derive(Debug)]
pub(crate) struct OutsidePod {
    namespace: NetworkNamespace,
}

impl OutsidePod {
    /// Marks the namespace that was found for the pod.
    ///
    /// # Errors
    /// When it can't be opened or the kernel refuses.
    pub(crate) fn mark(
        node: &NodeContext,
        workload: &Workload,
        found: NamespaceIdentity,
    ) -> Result<Self, CaptureError> {
        let location = NamespaceLocation::for_workload(workload);
        node.namespaces.check(&location, found, &workload.uid)?;
        let namespace = node.namespaces.open(&location, found)?;
        node.redirect.mark_outside(&namespace)?;
        Ok(Self { namespace })
    }

    /// Takes the mark off.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn unmark(self, node: &NodeContext) -> Result<(), CaptureError> {
        Ok(node.redirect.unmark_outside(&self.namespace)?)
    }
}

impl InNamespace for OutsidePod {
    fn namespace(&self) -> NamespaceIdentity {
        self.namespace.identity()
    }
}
