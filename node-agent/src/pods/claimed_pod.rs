//! A pod on its way into the mesh: its namespace is kept to it and open, its connections may be
//! refused already.

use std::sync::Arc;

use weft_model::workload::{RefusedConnections, Workload};

use super::context::NodeContext;
use super::error::CaptureError;
use super::state::{EnrolledAs, InNamespace};
use crate::namespaces::{NamespaceClaim, NamespaceIdentity, NamespaceLocation};
use crate::pod_sockets::PodSockets;
use crate::redirect::{EnforcementConfig, PodAddresses, PodRedirect, RedirectError};

/// A pod whose namespace is kept to it. The order of the fields is the order in which they are
/// dropped.
#[derive(Debug)]
pub(crate) struct ClaimedPod {
    /// The pod in the form in which it is refused.
    pub(super) workload: Arc<Workload>,
    pub(super) redirect: PodRedirect,
    pub(super) sockets: Arc<PodSockets>,
    /// Keeps the namespace to this pod.
    pub(super) claim: NamespaceClaim,
}

impl ClaimedPod {
    /// Keeps the namespace that was found to the pod. Nothing changes for its connections.
    ///
    /// # Errors
    /// When the namespace can't be opened, or is another's.
    pub(crate) fn claim(
        node: &NodeContext,
        workload: &Arc<Workload>,
        found: NamespaceIdentity,
    ) -> Result<Self, CaptureError> {
        let location = NamespaceLocation::for_workload(workload);
        let claim = node.namespaces.claim(&location, found, &workload.uid)?;
        let namespace = node.namespaces.open(&location, found)?;
        let redirect = node.redirect.prepare(&namespace)?;
        Ok(Self {
            workload: Arc::clone(workload),
            redirect,
            sockets: Arc::new(PodSockets::new(namespace, node.redirect.sockets())),
            claim,
        })
    }

    /// Refuses the pod's connections from now on, until it is captured or lifts them.
    ///
    /// # Errors
    /// When a part of it can't be done; every other part is.
    pub(crate) fn enforce(
        &mut self,
        workload: &Arc<Workload>,
        refused: RefusedConnections,
    ) -> Result<(), RedirectError> {
        self.workload = Arc::clone(workload);
        let namespace = self.sockets.namespace();
        let found;
        let addresses = match workload.addresses.is_empty() {
            false => PodAddresses::Assigned(&workload.addresses),
            true => {
                // Without any, processes of the node are refused, too.
                found = namespace.addresses().unwrap_or_default();
                PodAddresses::Found(&found)
            }
        };
        self.redirect.enforce(&EnforcementConfig {
            namespace,
            addresses,
            exclusions: &workload.exclusions,
            refused,
            node_access: &workload.node_access,
        })
    }

    /// True when its connections are refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.redirect.is_refused()
    }

    /// True when the kernel knew of it before this agent, or before it was told of.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.redirect.is_taken_over()
    }

    /// Its sockets, in its namespace.
    pub(crate) fn sockets(&self) -> &Arc<PodSockets> {
        &self.sockets
    }

    /// Lets the pod's connections pass again.
    ///
    /// # Errors
    /// When something can't be taken back; everything else is.
    pub(crate) fn lift(self) -> Result<(), CaptureError> {
        Ok(self.redirect.release()?)
    }

    /// Leaves the pod refused, until the next agent takes it over.
    pub(crate) fn leave_enforced(self) {
        self.redirect.leave_enforced();
    }
}

impl InNamespace for Box<ClaimedPod> {
    fn namespace(&self) -> NamespaceIdentity {
        self.sockets.namespace().identity()
    }
}

impl EnrolledAs for Box<ClaimedPod> {
    fn workload(&self) -> &Workload {
        &self.workload
    }
}
