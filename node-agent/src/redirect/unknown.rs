//! Pods that nobody has told of: refused inbound, as the connect programs refuse them outbound
//! when [`UnknownPods::Refuse`](super::UnknownPods) is chosen.

use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;

use super::error::RedirectError;
use super::kernel::{KernelState, UnknownPod};
use super::links;
use super::node::Redirect;
use crate::namespaces::NetworkNamespace;

impl Redirect {
    /// Refuses what arrives at a pod that nobody has told of, but from the node's own processes,
    /// until it is captured, refused for another reason, or marked as outside: no moment
    /// between is open. Nothing changes for a namespace of which something was said.
    ///
    /// # Errors
    /// When the program can't be attached, or a table is full.
    pub fn refuse_unknown(&self, namespace: &NetworkNamespace) -> Result<(), RedirectError> {
        let cookie = namespace.cookie();
        let mut state = self.kernel.lock();
        if state.captured.contains(&cookie)
            || state.unknown.contains_key(&cookie)
            || state.tables.has_namespace(cookie)
        {
            return Ok(());
        }
        let found = namespace.addresses().unwrap_or_default();
        let addresses = state.without_others(cookie, &found);
        let KernelState {
            object,
            tables,
            pins,
            unknown,
            ..
        } = &mut *state;
        let mode = MtlsMode::Strict;
        let lookup = links::attach_lookup(object, namespace, cookie, mode, pins.as_ref())?;
        let pod = unknown.entry(cookie).or_insert(UnknownPod {
            lookup: Some(lookup),
            ..UnknownPod::default()
        });
        // What it declares is unknown, too: where the control plane is away, kubelet would
        // restart pods that are no business of the mesh's.
        tables.set_node_access(cookie, &NodeAccess::All, &mut pod.entries)?;
        tables.set_addresses(cookie, &addresses, None, &mut pod.entries)
    }

    /// Forgets a pod that was refused as unknown, and is gone.
    ///
    /// # Errors
    /// When the kernel doesn't let a table be written.
    pub fn forget_unknown(&self, cookie: u64) -> Result<(), RedirectError> {
        self.kernel.lock().forget_unknown(cookie)
    }
}
