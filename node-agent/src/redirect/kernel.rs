//! The state of the kernel as this agent has made it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;

use super::entries::PodEntries;
use super::error::RedirectError;
use super::held::HeldConnections;
use super::kubelets::Kubelets;
use super::links::ProgramLink;
use super::listening::ListeningSockets;
use super::pins::Pins;
use super::tables::Tables;

/// The state of the kernel, shared by the node's part and every captured pod's.
#[derive(Clone, Debug)]
pub(super) struct Kernel(Arc<Mutex<KernelState>>);

/// The loaded programs, their links and tables.
#[derive(Debug)]
pub(super) struct KernelState {
    pub(super) object: Ebpf,
    pub(super) tables: Tables,
    /// Dropped before the pins are: their folder is then empty.
    pub(super) links: Vec<ProgramLink>,
    pub(super) pins: Option<Pins>,
    pub(super) kubelets: Kubelets,
    /// Where applications listen.
    pub(super) listening: Arc<ListeningSockets>,
    pub(super) held: Arc<HeldConnections>,
    /// Applications may be let wait in `connect()`: this process may answer them.
    pub(super) can_hold: bool,
    /// The node's own namespace, by its cookie.
    pub(super) host: u64,
    /// The namespaces of captured pods.
    pub(super) captured: HashSet<u64>,
    /// Namespaces of pods that nobody has told of, whose inbound connections are refused.
    pub(super) unknown: HashMap<u64, UnknownPod>,
    /// Entries that an earlier agent left in pinned maps and nobody has taken over yet.
    pub(super) inherited: HashMap<u64, PodEntries>,
}

/// A pod that nobody has told of, and that is refused inbound; outbound it is as long as its
/// namespace has no entry.
#[derive(Debug, Default)]
pub(super) struct UnknownPod {
    /// Its addresses, which processes of the node reach all the same.
    pub(super) entries: PodEntries,
    pub(super) lookup: Option<ProgramLink>,
}

impl KernelState {
    /// Those addresses that no other pod of this node has.
    pub(super) fn without_others(&self, cookie: u64, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let is_looked_after =
            |owner| self.captured.contains(&owner) || self.unknown.contains_key(&owner);
        let is_others = |address: IpAddr| {
            let owner = self.tables.owner(address);
            owner.is_some_and(|owner| owner != cookie && is_looked_after(owner))
        };
        let addresses = addresses.iter().copied();
        addresses.filter(|address| !is_others(*address)).collect()
    }

    /// Lets the connections of a pod pass that was refused as unknown, or is gone.
    pub(super) fn forget_unknown(&mut self, cookie: u64) -> Result<(), RedirectError> {
        match self.unknown.remove(&cookie) {
            Some(mut unknown) => self.tables.remove_entries(cookie, &mut unknown.entries),
            None => Ok(()),
        }
    }
}

impl Kernel {
    pub(super) fn new(state: KernelState) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, KernelState> {
        // Every change is complete on its own, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
