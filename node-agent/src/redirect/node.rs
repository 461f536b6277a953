//! The programs of a node, and the parts of them that all its pods share.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_ebpf_common::{NamespaceEntry, NamespaceRole};

use super::capabilities::Capabilities;
use super::cgroup::{Cgroup, Cgroups};
use super::counters::{Counter, Counters};
use super::error::RedirectError;
use super::kernel::{Kernel, KernelState};
use super::load::{self, Constants};
use super::options::RedirectOptions;
use super::pins::{self, Pins};
use super::pod::{PodRedirect, PodRedirectConfig};
use super::socket_maps::SocketMaps;
use super::tables::{RecordCounts, TableSizes, Tables};
use super::{links, probe};
use crate::namespaces::NetworkNamespace;

/// The programs of a node.
#[derive(Debug)]
pub struct Redirect {
    kernel: Kernel,
    sockets: Arc<SocketMaps>,
    counters: Counters,
    capabilities: Capabilities,
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
            pods_cgroup: cgroups.pods.as_ref().map(Cgroup::id),
            log: options.log,
        };
        let mut object = load::load(constants, pins.as_ref().map(Pins::maps).as_deref())?;
        let capabilities = probe::try_attaching(&mut object, &cgroups.attached)?;
        let sockets = Arc::new(SocketMaps::from_object(
            &mut object,
            cgroups.pods.is_some(),
        )?);
        let counters = Counters::from_object(&mut object)?;
        let mut tables = Tables::from_object(&mut object)?;
        let inherited = tables.entries_of_predecessor();
        tables.set_namespace(host.cookie(), NamespaceEntry::new(NamespaceRole::Host))?;
        let links = links::attach_cgroup(&mut object, &cgroups.attached, pins.as_ref())?;
        if let Some(pins) = &pins {
            pins.remove_older_cgroup_links()?;
        }
        let kernel = Kernel::new(KernelState {
            object,
            tables,
            links,
            pins,
            host: host.cookie(),
            captured: HashSet::new(),
            inherited,
        });
        Ok(Self {
            kernel,
            sockets,
            counters,
            capabilities,
        })
    }

    /// Captures a pod: arriving connections first, then the ones that it opens. The
    /// outbound listener must be open already.
    ///
    /// # Errors
    /// When the namespace is the node's own or captured already, a table is full, or the
    /// program can't be attached; nothing changes then.
    pub fn capture(&self, config: &PodRedirectConfig<'_>) -> Result<PodRedirect, RedirectError> {
        PodRedirect::start(&self.kernel, config)
    }

    /// Tells the programs that a namespace belongs to a pod that isn't in the mesh: its
    /// connections go on even when those of unknown pods are refused. Nothing changes for a
    /// pod in the node's own namespace.
    ///
    /// # Errors
    /// When the pod is captured, or the table is full.
    pub fn mark_outside(&self, namespace: &NetworkNamespace) -> Result<(), RedirectError> {
        let cookie = namespace.cookie();
        let mut state = self.kernel.lock();
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
        state.tables.remove_entries(cookie, &mut old)?;
        if let Some(pins) = &state.pins {
            pins.remove_older_lookups(cookie)?;
        }
        Ok(())
    }

    /// Takes back what [`mark_outside`](Self::mark_outside) said: the pod is gone, or is
    /// about to be captured. A captured pod stays captured.
    ///
    /// # Errors
    /// When the kernel doesn't let the table be written.
    pub fn unmark_outside(&self, namespace: &NetworkNamespace) -> Result<(), RedirectError> {
        let cookie = namespace.cookie();
        let mut state = self.kernel.lock();
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
    pub fn remove_leftovers(&self) -> Result<(), RedirectError> {
        let mut state = self.kernel.lock();
        let KernelState {
            tables,
            pins,
            inherited,
            ..
        } = &mut *state;
        for (cookie, mut written) in inherited.drain() {
            tables.remove_entries(cookie, &mut written)?;
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
    pub fn leave_enforced(&self) {
        for link in self.kernel.lock().links.drain(..) {
            link.leave();
        }
    }

    /// The maps that the proxy asks about single sockets.
    pub fn sockets(&self) -> Arc<SocketMaps> {
        Arc::clone(&self.sockets)
    }

    /// The number of times that each program came to each verdict, without zeros.
    pub fn counters(&self) -> Vec<Counter> {
        self.counters.read()
    }

    /// Sizes of the tables.
    pub fn table_sizes(&self) -> TableSizes {
        self.kernel.lock().tables.sizes()
    }

    /// Numbers of connections that the programs see being opened. Walks through them all: for a
    /// diagnosis, not for every scrape.
    pub fn record_counts(&self) -> RecordCounts {
        self.kernel.lock().tables.records()
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
        let reader = EbpfLogger::init(&mut self.kernel.lock().object).map_err(missing)?;
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

    /// The programs that this node's kernel runs.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}
