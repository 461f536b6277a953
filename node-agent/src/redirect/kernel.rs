//! The state of the kernel as this agent has made it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;

use super::links::ProgramLink;
use super::pins::Pins;
use super::tables::{PodEntries, Tables};

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
    /// The node's own namespace, by its cookie.
    pub(super) host: u64,
    /// The namespaces of captured pods.
    pub(super) captured: HashSet<u64>,
    /// Entries that an earlier agent left in pinned maps and nobody has taken over yet.
    pub(super) inherited: HashMap<u64, PodEntries>,
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
