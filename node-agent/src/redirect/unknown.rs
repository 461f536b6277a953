//! Pods that nobody has told of, when [`UnknownPods::Refuse`](super::UnknownPods) is chosen. The
//! kernel refuses them by itself, both ways ([`ingress`](super::ingress)); what arrives at one that
//! was found is refused here, too: at once, and at listeners from before those programs.

use weft_ebpf_common::NamespaceRole;
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
            || state.tables.namespace(cookie).is_some()
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

    /// True where connections of pods are refused that nobody has told of.
    pub fn refuses_unknown(&self) -> bool {
        self.refuses_unknown
    }

    /// Lets the connections of a pod pass that is known and may be open, whenever nothing else is
    /// said of it: before it is captured, and after. Until
    /// [`forget_known`](Self::forget_known).
    ///
    /// # Errors
    /// When the table is full, or can't be written.
    pub fn leave_alone(&self, namespace: &NetworkNamespace) -> Result<(), RedirectError> {
        let cookie = namespace.cookie();
        let mut state = self.kernel.lock();
        if cookie == state.host {
            return Ok(());
        }
        state.tables.left_alone.insert(cookie);
        if state.captured.contains(&cookie) || state.tables.namespace(cookie).is_some() {
            return Ok(());
        }
        state.tables.remove_namespace(cookie)?;
        state.forget_unknown(cookie)
    }

    /// Takes back what [`leave_alone`](Self::leave_alone) said. Nothing changes for a pod of which
    /// something else is said by then.
    ///
    /// # Errors
    /// When the kernel doesn't let the table be written.
    pub fn forget_known(&self, cookie: u64) -> Result<(), RedirectError> {
        let mut state = self.kernel.lock();
        let was_left_alone = state.tables.left_alone.remove(&cookie);
        let entry = state.tables.namespace(cookie);
        let is_outside = entry.is_some_and(|entry| entry.role == NamespaceRole::Outside as u8);
        match was_left_alone && is_outside && !state.captured.contains(&cookie) {
            true => state.tables.remove_namespace(cookie),
            false => Ok(()),
        }
    }

    /// Forgets a pod that was refused as unknown, and is gone.
    ///
    /// # Errors
    /// When the kernel doesn't let a table be written.
    pub fn forget_unknown(&self, cookie: u64) -> Result<(), RedirectError> {
        self.kernel.lock().forget_unknown(cookie)
    }
}
