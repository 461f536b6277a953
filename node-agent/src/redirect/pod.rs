//! One captured pod.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use weft_ebpf_common::{NamespaceEntry, NamespaceRole};
use weft_model::mtls::MtlsMode;
use weft_model::workload::CaptureExclusions;

use super::attach::{self, Attached};
use super::maps::Written;
use super::{Redirect, RedirectError, Shared, State};
use crate::netns::NetworkNamespace;

/// One of the proxy's inbound listeners, in a pod's namespace.
#[derive(Clone, Copy, Debug)]
pub struct ListenerPair<'a> {
    /// Bound to an IPv4 address.
    pub v4: BorrowedFd<'a>,
    /// Bound to an IPv6 address; absent where the namespace has no IPv6.
    pub v6: Option<BorrowedFd<'a>>,
}

/// The proxy's inbound listeners in a pod's namespace. The kernel forgets a listener by
/// itself when it is closed, so none of its descriptors may be kept by others.
#[derive(Clone, Copy, Debug)]
pub struct PodListeners<'a> {
    /// Takes everything that isn't HBONE.
    pub plaintext: ListenerPair<'a>,
    /// Takes connections to the HBONE port.
    pub hbone: ListenerPair<'a>,
}

impl PodListeners<'_> {
    /// Plaintext and HBONE listener for an address.
    pub(super) fn of_family(&self, address: IpAddr) -> (Option<RawFd>, Option<RawFd>) {
        let choose = |pair: &ListenerPair<'_>| match address.is_ipv4() {
            true => Some(pair.v4.as_raw_fd()),
            false => pair.v6.map(|fd| fd.as_raw_fd()),
        };
        (choose(&self.plaintext), choose(&self.hbone))
    }
}

/// What it takes to capture a pod.
#[derive(Clone, Copy, Debug)]
pub struct PodCapture<'a> {
    /// The pod's network namespace.
    pub namespace: &'a NetworkNamespace,
    /// The pod's addresses.
    pub addresses: &'a [IpAddr],
    /// Outbound traffic left alone.
    pub exclusions: &'a CaptureExclusions,
    /// Where arriving connections go.
    pub listeners: PodListeners<'a>,
    /// Whether connections are refused or go on while the listeners are closed.
    pub mtls_mode: MtlsMode,
}

/// A captured pod. Released when dropped.
#[derive(Debug)]
pub struct CapturedPod {
    shared: Arc<Shared>,
    cookie: u64,
    mode: MtlsMode,
    written: Written,
    lookup: Option<Attached>,
    /// Whether anything is left to be taken back.
    active: bool,
}

impl Redirect {
    /// Captures a pod: arriving connections first, then the ones that it opens. The
    /// outbound listener must be open already.
    ///
    /// # Errors
    /// When the namespace is the node's own or captured already, a table is full, or the
    /// program can't be attached; nothing changes then.
    pub fn capture(&self, pod: &PodCapture<'_>) -> Result<CapturedPod, RedirectError> {
        let cookie = pod.namespace.cookie();
        let mut state = self.shared.state();
        let State {
            object,
            tables,
            pins,
            inherited,
            host,
            captured: namespaces,
            ..
        } = &mut *state;
        if cookie == *host {
            return Err(RedirectError::HostNamespace);
        }
        if !namespaces.insert(cookie) {
            return Err(RedirectError::AlreadyCaptured);
        }
        // Made first, so that a failure anywhere below releases what was done.
        let mut captured = CapturedPod {
            shared: Arc::clone(&self.shared),
            cookie,
            mode: pod.mtls_mode,
            written: inherited.remove(&cookie).unwrap_or_default(),
            lookup: None,
            active: true,
        };
        let mut capture = || {
            tables.set_addresses(cookie, pod.addresses, &pod.listeners, &mut captured.written)?;
            let pins = pins.as_ref();
            let lookup = attach::attach_lookup(object, pod.namespace, cookie, pod.mtls_mode, pins)?;
            captured.lookup = Some(lookup);
            tables.set_exclusions(cookie, pod.exclusions, &mut captured.written)?;
            match pins {
                Some(pins) => Ok(pins.remove_older_lookups(cookie)?),
                None => Ok(()),
            }
        };
        let result = capture();
        // Releasing takes the lock again.
        drop(state);
        result.map(|()| captured)
    }
}

impl CapturedPod {
    /// Changes what may change while a pod runs. The listeners are asked for again because
    /// nothing here keeps them open.
    ///
    /// # Errors
    /// When a table is full or the program can't be attached; the pod stays captured.
    pub fn update(&mut self, pod: &PodCapture<'_>) -> Result<(), RedirectError> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let State {
            object,
            tables,
            pins,
            ..
        } = &mut *state;
        if pod.mtls_mode != self.mode || self.lookup.is_none() {
            // Both run for a moment; a listener found by either wins over a refusal.
            let (mode, pins) = (pod.mtls_mode, pins.as_ref());
            let lookup = attach::attach_lookup(object, pod.namespace, self.cookie, mode, pins)?;
            self.lookup = Some(lookup);
            self.mode = mode;
        }
        tables.set_addresses(
            self.cookie,
            pod.addresses,
            &pod.listeners,
            &mut self.written,
        )?;
        tables.set_exclusions(self.cookie, pod.exclusions, &mut self.written)
    }

    /// Lets the pod's new connections go out directly, while those that arrive still go
    /// to the proxy: the first step of taking a pod out of the mesh.
    ///
    /// # Errors
    /// When the kernel doesn't let the table be written.
    pub fn stop_outbound(&mut self) -> Result<(), RedirectError> {
        let entry = NamespaceEntry::new(NamespaceRole::Outside);
        self.shared.state().tables.set_namespace(self.cookie, entry)
    }

    /// Takes the pod out. Its namespace is unknown afterwards; where unknown pods are
    /// refused and this one lives on, say so with [`Redirect::know_outside`].
    ///
    /// # Errors
    /// When something can't be taken back; everything else is.
    pub fn release(mut self) -> Result<(), RedirectError> {
        self.take_back()
    }

    /// Leaves the pod captured when the agent ends, where a pin directory is used: see
    /// [`Redirect::leave_enforced`].
    pub fn leave_enforced(mut self) {
        let Some(lookup) = self.lookup.take() else {
            return;
        };
        self.active = !matches!(lookup, Attached::Pinned { .. });
        lookup.leave();
    }

    fn take_back(&mut self) -> Result<(), RedirectError> {
        if !std::mem::take(&mut self.active) {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        state.captured.remove(&self.cookie);
        let outbound = state.tables.remove_namespace(self.cookie);
        self.lookup = None;
        let rest = state.tables.take_back(self.cookie, &mut self.written);
        outbound.and(rest)
    }
}

impl Drop for CapturedPod {
    fn drop(&mut self) {
        if let Err(error) = self.take_back() {
            tracing::warn!(%error, "a pod's capture could not be taken back completely");
        }
    }
}
