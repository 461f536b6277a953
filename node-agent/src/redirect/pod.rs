//! The redirection of one pod's connections.

use std::net::IpAddr;

use weft_ebpf_common::{NamespaceEntry, NamespaceRole};
use weft_model::mtls::MtlsMode;
use weft_model::workload::CaptureExclusions;

use super::error::RedirectError;
use super::kernel::{Kernel, KernelState};
use super::links::{self, ProgramLink};
use super::listeners::PodListeners;
use super::tables::PodEntries;
use crate::namespaces::NetworkNamespace;

/// The form in which a pod's connections are redirected.
#[derive(Clone, Copy, Debug)]
pub struct PodRedirectConfig<'a> {
    /// The pod's network namespace.
    pub namespace: &'a NetworkNamespace,
    /// The pod's addresses.
    pub addresses: &'a [IpAddr],
    /// Outbound traffic left alone.
    pub exclusions: &'a CaptureExclusions,
    /// The listeners that arriving connections go to.
    pub listeners: PodListeners<'a>,
    /// Strict: connections are refused while the listeners are closed; else they go on.
    pub mtls_mode: MtlsMode,
}

/// The redirection of one pod's connections. Ends when dropped.
#[derive(Debug)]
pub struct PodRedirect {
    kernel: Kernel,
    cookie: u64,
    mtls_mode: MtlsMode,
    entries: PodEntries,
    lookup: Option<ProgramLink>,
    /// There is something left to be removed.
    is_active: bool,
}

impl PodRedirect {
    /// Captures a pod: arriving connections first, then the ones that it opens. The
    /// outbound listener must be open already.
    ///
    /// # Errors
    /// When the namespace is the node's own or captured already, a table is full, or the
    /// program can't be attached; nothing changes then.
    pub(super) fn start(
        kernel: &Kernel,
        config: &PodRedirectConfig<'_>,
    ) -> Result<Self, RedirectError> {
        let cookie = config.namespace.cookie();
        let mut state = kernel.lock();
        let KernelState {
            object,
            tables,
            pins,
            inherited,
            host,
            captured,
            ..
        } = &mut *state;
        if cookie == *host {
            return Err(RedirectError::HostNamespace);
        }
        if !captured.insert(cookie) {
            return Err(RedirectError::AlreadyCaptured);
        }
        // Made first, so that a failure anywhere below releases what was done.
        let mut pod = Self {
            kernel: kernel.clone(),
            cookie,
            mtls_mode: config.mtls_mode,
            entries: inherited.remove(&cookie).unwrap_or_default(),
            lookup: None,
            is_active: true,
        };
        let mut capture = || {
            tables.set_addresses(
                cookie,
                config.addresses,
                &config.listeners,
                &mut pod.entries,
            )?;
            let pins = pins.as_ref();
            let (namespace, mode) = (config.namespace, config.mtls_mode);
            let lookup = links::attach_lookup(object, namespace, cookie, mode, pins)?;
            pod.lookup = Some(lookup);
            tables.set_exclusions(cookie, config.exclusions, &mut pod.entries)?;
            match pins {
                Some(pins) => Ok(pins.remove_older_lookups(cookie)?),
                None => Ok(()),
            }
        };
        let result = capture();
        // Releasing takes the lock again.
        drop(state);
        result.map(|()| pod)
    }

    /// Changes what may change while a pod runs. The listeners are asked for again because
    /// nothing here keeps them open.
    ///
    /// # Errors
    /// When a table is full or the program can't be attached; the pod stays captured.
    pub fn update(&mut self, config: &PodRedirectConfig<'_>) -> Result<(), RedirectError> {
        let kernel = self.kernel.clone();
        let mut state = kernel.lock();
        let KernelState {
            object,
            tables,
            pins,
            ..
        } = &mut *state;
        if config.mtls_mode != self.mtls_mode || self.lookup.is_none() {
            // Both run for a moment; a listener found by either wins over a refusal.
            let (mode, pins) = (config.mtls_mode, pins.as_ref());
            let lookup = links::attach_lookup(object, config.namespace, self.cookie, mode, pins)?;
            self.lookup = Some(lookup);
            self.mtls_mode = mode;
        }
        tables.set_addresses(
            self.cookie,
            config.addresses,
            &config.listeners,
            &mut self.entries,
        )?;
        tables.set_exclusions(self.cookie, config.exclusions, &mut self.entries)
    }

    /// Lets the pod's new connections go out directly, while those that arrive still go
    /// to the proxy: the first step of taking a pod out of the mesh.
    ///
    /// # Errors
    /// When the kernel doesn't let the table be written.
    pub fn stop_outbound(&mut self) -> Result<(), RedirectError> {
        let entry = NamespaceEntry::new(NamespaceRole::Outside);
        self.kernel.lock().tables.set_namespace(self.cookie, entry)
    }

    /// Takes the pod out. Its namespace is unknown afterwards; where unknown pods are
    /// refused and this one lives on, say so with
    /// [`Redirect::mark_outside`](super::Redirect::mark_outside).
    ///
    /// # Errors
    /// When something can't be taken back; everything else is.
    pub fn release(mut self) -> Result<(), RedirectError> {
        self.remove()
    }

    /// Leaves the pod captured when the agent ends, where a pin directory is used: see
    /// [`Redirect::leave_enforced`](super::Redirect::leave_enforced).
    pub fn leave_enforced(mut self) {
        let Some(lookup) = self.lookup.take() else {
            return;
        };
        self.is_active = !matches!(lookup, ProgramLink::Pinned { .. });
        lookup.leave();
    }

    fn remove(&mut self) -> Result<(), RedirectError> {
        if !std::mem::take(&mut self.is_active) {
            return Ok(());
        }
        let kernel = self.kernel.clone();
        let mut state = kernel.lock();
        state.captured.remove(&self.cookie);
        let outbound = state.tables.remove_namespace(self.cookie);
        self.lookup = None;
        let rest = state.tables.remove_entries(self.cookie, &mut self.entries);
        outbound.and(rest)
    }
}

impl Drop for PodRedirect {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "a pod's capture could not be taken back completely");
        }
    }
}
