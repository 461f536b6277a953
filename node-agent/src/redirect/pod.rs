//! The redirection of one pod's connections, and their refusal before.

use std::net::IpAddr;

use aya::Ebpf;
use weft_ebpf_common::{NamespaceEntry, NamespaceRole};
use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::workload::{CaptureExclusions, RefusedConnections};

use super::entries::PodEntries;
use super::error::RedirectError;
use super::kernel::{Kernel, KernelState};
use super::links::{self, ProgramLink};
use super::listeners::{OutboundCookies, OutboundListeners, PodListeners};
use crate::namespaces::NetworkNamespace;

/// The addresses of a pod, by who says so.
#[derive(Clone, Copy, Debug)]
pub enum PodAddresses<'a> {
    /// The control plane, which gives each of them to one pod only: the one that had it before
    /// has it no more.
    Assigned(&'a [IpAddr]),
    /// The pod's network namespace, which has those that its root gives it: none of them is
    /// taken away from another pod.
    Found(&'a [IpAddr]),
}

impl<'a> PodAddresses<'a> {
    /// The addresses.
    pub fn as_slice(self) -> &'a [IpAddr] {
        match self {
            Self::Assigned(addresses) | Self::Found(addresses) => addresses,
        }
    }
}

/// The form in which a pod's connections are redirected.
#[derive(Clone, Copy, Debug)]
pub struct PodRedirectConfig<'a> {
    /// The pod's network namespace.
    pub namespace: &'a NetworkNamespace,
    /// The pod's addresses.
    pub addresses: PodAddresses<'a>,
    /// Outbound traffic left alone.
    pub exclusions: &'a CaptureExclusions,
    /// The listeners that connections go to.
    pub listeners: PodListeners<'a>,
    /// Strict: connections are refused while the listeners are closed; else they go on, unless
    /// they are refused while there is no proxy.
    pub mtls_mode: MtlsMode,
    /// What stays open to the node then.
    pub node_access: &'a NodeAccess,
    /// The connections that are refused while there is no proxy.
    pub refused_uncaptured: Option<RefusedConnections>,
}

impl PodRedirectConfig<'_> {
    /// The mode that the inbound program is for.
    fn lookup_mode(&self) -> MtlsMode {
        let refused = self.refused_uncaptured;
        match refused.is_some_and(RefusedConnections::includes_inbound) {
            true => MtlsMode::Strict,
            false => self.mtls_mode,
        }
    }
}

/// The form in which a pod's connections are refused while it has no proxy.
#[derive(Clone, Copy, Debug)]
pub struct EnforcementConfig<'a> {
    /// The pod's network namespace.
    pub namespace: &'a NetworkNamespace,
    /// The pod's addresses, which processes of the node reach all the same.
    pub addresses: PodAddresses<'a>,
    /// Outbound traffic left alone.
    pub exclusions: &'a CaptureExclusions,
    /// The connections that are refused.
    pub refused: RefusedConnections,
    /// What stays open to the node all the same.
    pub node_access: &'a NodeAccess,
}

/// The redirection of one pod's connections. Ends when dropped; but a pod that may not be open
/// is left refused then, where a pin directory is used.
#[derive(Debug)]
pub struct PodRedirect {
    kernel: Kernel,
    cookie: u64,
    /// The kernel knew of the pod before.
    is_taken_over: bool,
    entries: PodEntries,
    /// The inbound program, with the mode that it is for.
    lookup: Option<(MtlsMode, ProgramLink)>,
    /// What of it is refused, rather than open, when nobody looks after it any more.
    fails_closed: Option<RefusedConnections>,
    /// The kernel refuses its connections, as it is to do while the pod has no proxy.
    is_refused: bool,
    /// There is something left to be removed.
    is_active: bool,
}

impl PodRedirect {
    /// Takes over what an earlier agent left of a pod, and changes nothing yet.
    ///
    /// # Errors
    /// When the namespace is the node's own, or another's.
    pub(super) fn prepare(
        kernel: &Kernel,
        namespace: &NetworkNamespace,
    ) -> Result<Self, RedirectError> {
        let cookie = namespace.cookie();
        let mut state = kernel.lock();
        if cookie == state.host {
            return Err(RedirectError::HostNamespace);
        }
        if !state.captured.insert(cookie) {
            return Err(RedirectError::AlreadyCaptured);
        }
        // Whoever was refused as unknown stays so until something else is said.
        let (entries, lookup) = match state.unknown.remove(&cookie) {
            Some(unknown) => (Some(unknown.entries), unknown.lookup),
            None => (state.inherited.remove(&cookie), None),
        };
        Ok(Self {
            kernel: kernel.clone(),
            cookie,
            is_taken_over: entries.is_some(),
            entries: entries.unwrap_or_default(),
            lookup: lookup.map(|lookup| (MtlsMode::Strict, lookup)),
            fails_closed: None,
            is_refused: false,
            is_active: true,
        })
    }

    /// Refuses the pod's connections from now on, until they are redirected by
    /// [`update`](Self::update): no moment between is open.
    ///
    /// # Errors
    /// When a part of it can't be done; every other part is. Try again then.
    pub fn enforce(&mut self, config: &EnforcementConfig<'_>) -> Result<(), RedirectError> {
        self.fails_closed = Some(config.refused);
        let kernel = self.kernel.clone();
        let mut state = kernel.lock();
        let inbound = match config.refused.includes_inbound() {
            true => self.attach_lookup(&mut state, config.namespace, MtlsMode::Strict),
            false => {
                self.lookup = None;
                Ok(())
            }
        };
        let addresses = match config.addresses {
            PodAddresses::Assigned(addresses) => addresses.to_vec(),
            PodAddresses::Found(addresses) => state.without_others(self.cookie, addresses),
        };
        let (tables, cookie) = (&mut state.tables, self.cookie);
        let addresses = tables.set_addresses(cookie, &addresses, None, &mut self.entries);
        let node = tables.set_node_access(cookie, config.node_access, &mut self.entries);
        let no_exclusions = CaptureExclusions::default();
        let (role, exclusions) = match config.refused.includes_outbound() {
            true => (NamespaceRole::Enforced, config.exclusions),
            // Nothing is excluded where all passes.
            false => (NamespaceRole::Outside, &no_exclusions),
        };
        let none = OutboundListeners::default();
        let exclusions = tables.set_exclusions(cookie, role, exclusions, none, &mut self.entries);
        let outbound = match exclusions {
            Ok(()) => Ok(()),
            // Where its exclusions find no room it is refused without them.
            Err(_) => tables.set_namespace(cookie, NamespaceEntry::new(role)),
        };
        self.is_refused = inbound.is_ok() && outbound.is_ok();
        inbound
            .and(addresses)
            .and(node)
            .and(outbound)
            .and(exclusions)?;
        match &state.pins {
            Some(pins) => Ok(pins.remove_older_lookups(cookie)?),
            None => Ok(()),
        }
    }

    /// Redirects the pod's connections in this form from now on: arriving ones first, then
    /// those that it opens. The outbound listener must be open already. The listeners are
    /// asked for each time because nothing here keeps them open.
    ///
    /// # Errors
    /// When a table is full, the program can't be attached, or an address that was found is
    /// another pod's; a pod that was captured stays so, and one that was refused is not yet
    /// captured.
    pub fn update(&mut self, config: &PodRedirectConfig<'_>) -> Result<(), RedirectError> {
        let kernel = self.kernel.clone();
        let mut state = kernel.lock();
        let listeners = Some(&config.listeners);
        let addresses = match config.addresses {
            PodAddresses::Assigned(addresses) => addresses,
            PodAddresses::Found(addresses) => {
                let own = state.without_others(self.cookie, addresses);
                let others = addresses.iter().find(|address| !own.contains(address));
                match others {
                    Some(&address) => return Err(RedirectError::AddressTaken(address)),
                    None => addresses,
                }
            }
        };
        let entries = &mut self.entries;
        state
            .tables
            .set_addresses(self.cookie, addresses, listeners, entries)?;
        let tables = &mut state.tables;
        tables.set_node_access(self.cookie, config.node_access, &mut self.entries)?;
        if config.listeners.refuses_closed_ports {
            state.listening.follow(config.namespace);
        }
        self.attach_lookup(&mut state, config.namespace, config.lookup_mode())?;
        let KernelState {
            object,
            tables,
            pins,
            can_hold,
            ..
        } = &mut *state;
        let outbound = outbound(object, *can_hold, &config.listeners)?;
        let (cookie, role) = (self.cookie, NamespaceRole::Captured);
        tables.set_exclusions(cookie, role, config.exclusions, outbound, &mut self.entries)?;
        self.fails_closed = config.refused_uncaptured;
        self.is_refused = false;
        match pins {
            Some(pins) => Ok(pins.remove_older_lookups(cookie)?),
            None => Ok(()),
        }
    }

    /// Has the inbound program for a mode attached. Where it changes both run for a moment; a
    /// listener found by either wins over a refusal.
    fn attach_lookup(
        &mut self,
        state: &mut KernelState,
        namespace: &NetworkNamespace,
        mode: MtlsMode,
    ) -> Result<(), RedirectError> {
        if self.lookup.as_ref().is_some_and(|(is, _)| *is == mode) {
            return Ok(());
        }
        let pins = state.pins.as_ref();
        let link = links::attach_lookup(&mut state.object, namespace, self.cookie, mode, pins)?;
        self.lookup = Some((mode, link));
        Ok(())
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

    /// Those addresses that no other pod of this node has.
    pub fn without_others(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        self.kernel.lock().without_others(self.cookie, addresses)
    }

    /// The programs, and what all pods share of them.
    pub(super) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// True when the kernel knew of the pod already: by an earlier agent, or as one that nobody
    /// had told of and that was refused.
    pub fn is_taken_over(&self) -> bool {
        self.is_taken_over
    }

    /// True when all of its connections that may not pass are refused, whatever else of
    /// [`enforce`](Self::enforce) can't be done.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Leaves the pod refused when the agent ends, where a pin directory is used: see
    /// [`Redirect::leave_enforced`](super::Redirect::leave_enforced).
    pub fn leave_enforced(mut self) {
        self.leave();
    }

    /// As an agent leaves it that dies: whoever comes next takes it over. Does nothing without
    /// a pin directory.
    fn leave(&mut self) {
        let kernel = self.kernel.clone();
        let mut state = kernel.lock();
        if state.pins.is_none() || !std::mem::take(&mut self.is_active) {
            return;
        }
        let outbound = match self.fails_closed {
            Some(RefusedConnections::Inbound) => {
                let entry = NamespaceEntry::new(NamespaceRole::Outside);
                state.tables.set_namespace(self.cookie, entry)
            }
            _ => state.tables.refuse_captured(self.cookie),
        };
        if let Err(error) = outbound {
            // Nobody listens on the proxy's port any more: they are refused.
            tracing::warn!(%error, "a pod's connections still go to the proxy's port");
        }
        if let Some((_, lookup)) = self.lookup.take() {
            lookup.leave();
        }
        let entries = std::mem::take(&mut self.entries);
        state.listening.forget(self.cookie);
        state.captured.remove(&self.cookie);
        state.inherited.insert(self.cookie, entries);
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
        state.listening.forget(self.cookie);
        let rest = state.tables.remove_entries(self.cookie, &mut self.entries);
        outbound.and(rest)
    }
}

impl Drop for PodRedirect {
    fn drop(&mut self) {
        if self.fails_closed.is_some() {
            self.leave();
        }
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "a pod's capture could not be taken back completely");
        }
    }
}

/// The outbound listeners; lets connections be held there where that is wanted and possible.
fn outbound(
    object: &mut Ebpf,
    can_hold: bool,
    listeners: &PodListeners<'_>,
) -> Result<OutboundListeners, RedirectError> {
    let action = "tell the outbound listeners apart";
    let failed = |error| RedirectError::System { action, error };
    let mut cookies = OutboundCookies::default();
    if can_hold {
        for listener in listeners.holding() {
            links::attach_hold(object, listener)?;
        }
        cookies = listeners.outbound_cookies().map_err(failed)?;
    }
    let mut outbound = listeners.outbound().map_err(failed)?;
    outbound.cookies = cookies;
    Ok(outbound)
}
