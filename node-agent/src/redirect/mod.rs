//! Handing the connections of pods to the proxy: the kernel programs, loaded once for
//! a node, and what they are told about each pod. The only code of the agent that
//! speaks to eBPF.
//!
//! * [`load`](Redirect::load) loads the programs, tries each for real, and attaches
//!   those that all pods share to the cgroup hierarchy
//! * [`capture`](Redirect::capture) takes a pod in, [`CapturedPod`] holds it
//! * [`SocketMaps`] is what the proxy asks about single sockets
//!
//! Without a pin directory everything ends with the process. With one, what is attached
//! stays when the agent dies, and pods in strict mode are refused until a new agent
//! takes them over.

mod attach;
mod blocks;
mod cgroup;
mod error;
mod load;
mod maps;
mod pins;
mod pod;
mod sockets;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_ebpf_common::{NamespaceEntry, NamespaceRole};

use crate::netns::NetworkNamespace;
use attach::Attached;
use cgroup::Cgroups;
use load::Constants;
use maps::{Counters, Tables, Written};
use pins::Pins;

pub use cgroup::{CgroupError, enter_node_namespace};
pub use error::RedirectError;
pub use load::Capabilities;
pub use maps::{RecordCounts, TableSizes};
pub use pins::PinsError;
pub use pod::{CapturedPod, ListenerPair, PodCapture, PodListeners};
pub use sockets::SocketMaps;

/// What happens to connections from pods that nobody has told the agent about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownPods {
    /// They go on as if there were no mesh.
    #[default]
    Allow,
    /// They are refused until the pod is known.
    Refuse,
}

/// How the programs are loaded.
#[derive(Clone, Debug, Default)]
pub struct RedirectOptions {
    /// cgroup v2 directory that holds the pods and this process; the root of the
    /// hierarchy when absent. A relative path starts at that root.
    pub cgroup: Option<PathBuf>,
    /// cgroup v2 directory below which the processes of pods live; looked for when
    /// absent. Where there is none, /proc says which processes are pods'.
    pub pods_cgroup: Option<PathBuf>,
    /// What happens to pods that nobody has told the agent about.
    pub unknown_pods: UnknownPods,
    /// Directory, on a BPF file system, that keeps the programs attached when the agent
    /// dies. One agent only.
    pub pin_directory: Option<PathBuf>,
    /// Have the programs write a line for every connection; see [`Redirect::read_log`].
    pub log: bool,
}

/// How often a program came to a verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counter {
    /// `connect`, `sockops` or `sk_lookup`.
    pub program: &'static str,
    /// `pass`, `capture` or `refuse`.
    pub verdict: &'static str,
    /// What led to the verdict, for example `own_socket`.
    pub finding: &'static str,
    /// Since the programs were loaded, or since their maps were first pinned.
    pub count: u64,
}

/// The programs of a node.
#[derive(Debug)]
pub struct Redirect {
    shared: Arc<Shared>,
    sockets: Arc<SocketMaps>,
    counters: Counters,
    capabilities: Capabilities,
}

/// What captured pods need to come and go.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    object: Ebpf,
    tables: Tables,
    /// Dropped before the pins are: their folder is then empty.
    links: Vec<Attached>,
    pins: Option<Pins>,
    /// The node's own namespace.
    host: u64,
    captured: HashSet<u64>,
    /// What an earlier agent left in pinned maps and nobody has taken over yet.
    inherited: HashMap<u64, Written>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete on its own, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Redirect {
    /// Loads the programs, tries each in a scratch cgroup or namespace, and attaches those
    /// that all pods share. Pods that an earlier agent captured stay captured when the
    /// maps were pinned.
    ///
    /// The calling thread must be in the node's own network namespace.
    ///
    /// # Errors
    /// When the agent was built without the programs, may not load them, is in the wrong
    /// cgroup, or runs on a kernel that can't; see [`RedirectError`].
    pub fn load(options: &RedirectOptions) -> Result<Self, RedirectError> {
        let host = NetworkNamespace::current()?;
        let cgroups = Cgroups::find(options.cgroup.as_deref(), options.pods_cgroup.as_deref())?;
        let pins = options
            .pin_directory
            .as_deref()
            .map(Pins::create)
            .transpose()?;
        let constants = Constants {
            unknown_pods: options.unknown_pods,
            pods_cgroup: cgroups.pods.as_ref().map(cgroup::Cgroup::id),
            log: options.log,
        };
        let mut object = load::load(constants, pins.as_ref().map(Pins::maps).as_deref())?;
        let capabilities = load::try_attaching(&mut object, &cgroups.attached)?;
        let sockets = Arc::new(SocketMaps::take(&mut object, cgroups.pods.is_some())?);
        let counters = Counters::take(&mut object)?;
        let mut tables = Tables::take(&mut object)?;
        let inherited = tables.left_by_predecessor();
        tables.set_namespace(host.cookie(), NamespaceEntry::new(NamespaceRole::Host))?;
        let links = attach::attach_cgroup(&mut object, &cgroups.attached, pins.as_ref())?;
        if let Some(pins) = &pins {
            pins.remove_older_cgroup_links()?;
        }
        let state = Mutex::new(State {
            object,
            tables,
            links,
            pins,
            host: host.cookie(),
            captured: HashSet::new(),
            inherited,
        });
        Ok(Self {
            shared: Arc::new(Shared { state }),
            sockets,
            counters,
            capabilities,
        })
    }

    /// Tells the programs that a namespace belongs to a pod that isn't in the mesh: its
    /// connections go on even when those of unknown pods are refused. Nothing changes for a
    /// pod in the node's own namespace.
    ///
    /// # Errors
    /// When the pod is captured, or the table is full.
    pub fn know_outside(&self, namespace: &NetworkNamespace) -> Result<(), RedirectError> {
        let cookie = namespace.cookie();
        let mut state = self.shared.state();
        if cookie == state.host {
            return Ok(());
        }
        if state.captured.contains(&cookie) {
            return Err(RedirectError::AlreadyCaptured);
        }
        let mut old = state.inherited.remove(&cookie).unwrap_or_default();
        state
            .tables
            .set_namespace(cookie, NamespaceEntry::new(NamespaceRole::Outside))?;
        state.tables.take_back(cookie, &mut old)?;
        if let Some(pins) = &state.pins {
            pins.remove_older_lookups(cookie)?;
        }
        Ok(())
    }

    /// Takes back what [`know_outside`](Self::know_outside) said: the pod is gone, or is
    /// about to be captured. A captured pod stays captured.
    ///
    /// # Errors
    /// When the kernel doesn't let the table be written.
    pub fn forget(&self, namespace: &NetworkNamespace) -> Result<(), RedirectError> {
        let cookie = namespace.cookie();
        let mut state = self.shared.state();
        if cookie == state.host || state.captured.contains(&cookie) {
            return Ok(());
        }
        state.tables.remove_namespace(cookie)
    }

    /// Takes away what earlier agents left and this one has not taken over: call it when
    /// every pod of the node is captured or known. Does nothing without a pin directory.
    ///
    /// # Errors
    /// When a pin can't be removed.
    pub fn collect_leftovers(&self) -> Result<(), RedirectError> {
        let mut state = self.shared.state();
        let State {
            tables,
            pins,
            inherited,
            ..
        } = &mut *state;
        for (cookie, mut written) in inherited.drain() {
            tables.take_back(cookie, &mut written)?;
            tables.remove_namespace(cookie)?;
        }
        match pins {
            Some(pins) => Ok(pins.remove_leftovers()?),
            None => Ok(()),
        }
    }

    /// Removes everything that agents with this pin directory have left, and returns how
    /// many pins that were.
    ///
    /// # Errors
    /// When an agent that uses it runs, or a pin can't be removed.
    pub fn uninstall(pin_directory: &Path) -> Result<usize, RedirectError> {
        Ok(pins::uninstall(pin_directory)?)
    }

    /// Ends this agent but leaves what is attached and pinned, so that captured pods stay
    /// captured until a successor comes. Without a pin directory everything ends.
    pub fn leave_enforced(self) {
        for link in self.shared.state().links.drain(..) {
            link.leave();
        }
    }

    /// What the proxy asks about single sockets.
    pub fn sockets(&self) -> Arc<SocketMaps> {
        Arc::clone(&self.sockets)
    }

    /// How often each program came to which verdict; only those that did.
    pub fn counters(&self) -> Vec<Counter> {
        self.counters.read()
    }

    /// How full the tables are.
    pub fn table_sizes(&self) -> TableSizes {
        self.shared.state().tables.sizes()
    }

    /// How many connections the programs see being opened. Walks through them all: for a
    /// diagnosis, not for every scrape.
    pub fn record_counts(&self) -> RecordCounts {
        self.shared.state().tables.records()
    }

    /// Passes on what the programs write when [`RedirectOptions::log`] is set, to the `log`
    /// facade with the target `weft_ebpf`. The future is to be run, on a tokio runtime, for
    /// as long as lines are wanted.
    ///
    /// # Errors
    /// When somebody reads them already.
    pub fn read_log(
        &self,
    ) -> Result<impl Future<Output = std::io::Result<()>> + Send + use<>, RedirectError> {
        let missing = |_| RedirectError::Missing {
            kind: "map",
            name: "AYA_LOGS".to_owned(),
        };
        let reader = EbpfLogger::init(&mut self.shared.state().object).map_err(missing)?;
        Ok(async move {
            // SAFETY: the logger owns its descriptor for as long as it lives, and is
            // dropped together with its registration.
            let registered = unsafe { AsyncFd::register_with_interest(reader, Interest::READABLE) };
            let mut reader = registered?;
            loop {
                let mut ready = reader.readable_mut().await?;
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        })
    }

    /// What was found out about this node's kernel.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}
