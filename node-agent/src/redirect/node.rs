//! The programs of a node, and the parts of them that all its pods share.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_ebpf_common::{NamespaceEntry, NamespaceRole, map};

use super::capabilities::Capabilities;
use super::cgroup::{Cgroup, Cgroups};
use super::counters::{Counter, Counters};
use super::error::RedirectError;
use super::held::{HeldAttempts, HeldConnections};
use super::kernel::{Kernel, KernelState};
use super::kubelets::Kubelets;
use super::links::{self, ProgramLink};
use super::listening::{self, ListeningSockets};
use super::load::{self, Constants};
use super::object::take_map;
use super::options::{RedirectOptions, UnknownPods};
use super::pins::{self, Pins};
use super::pod::{PodRedirect, PodRedirectConfig};
use super::socket_maps::SocketMaps;
use super::table_sizes::{RecordCounts, TableSizes};
use super::tables::Tables;
use super::{ingress, probe};
use crate::namespaces::NetworkNamespace;

/// The programs of a node.
#[derive(Debug)]
pub struct Redirect {
    pub(super) kernel: Kernel,
    sockets: Arc<SocketMaps>,
    held: Arc<HeldConnections>,
    counters: Counters,
    capabilities: Capabilities,
    pub(super) refuses_unknown: bool,
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
        let maps = pins.as_ref().map(Pins::maps);
        let mut object = load::load(constants, &options.map_sizes, maps.as_deref())?;
        let capabilities = probe::try_attaching(&mut object, &cgroups.attached)?;
        let sockets = Arc::new(SocketMaps::from_object(
            &mut object,
            cgroups.pods.is_some(),
        )?);
        let held = Arc::new(HeldConnections::from_object(&mut object)?);
        let can_hold = can_hold(&held);
        let counters = Counters::from_object(&mut object)?;
        let mut tables = Tables::from_object(&mut object)?;
        let inherited = tables.entries_of_predecessor();
        let kubelet = options.kubelet_cgroup.as_deref();
        let kubelets = Kubelets::start(&mut object, cgroups.root, kubelet)?;
        tables.set_namespace(host.cookie(), NamespaceEntry::new(NamespaceRole::Host))?;
        let listening = Arc::new(ListeningSockets::from_object(&mut object)?);
        let unknown_pods = options.unknown_pods;
        let at = (&cgroups.attached, cgroups.pods.as_ref());
        let links = attach(&mut object, at, unknown_pods, pins.as_ref())?;
        let kernel = Kernel::new(KernelState {
            object,
            tables,
            links,
            pins,
            kubelets,
            listening,
            held: Arc::clone(&held),
            can_hold,
            host: host.cookie(),
            captured: HashSet::new(),
            unknown: HashMap::new(),
            inherited,
        });
        Ok(Self {
            kernel,
            sockets,
            held,
            counters,
            capabilities,
            refuses_unknown: unknown_pods == UnknownPods::Refuse,
        })
    }

    /// Loads the programs and tries each, as [`load`](Self::load) does, beside an agent that serves
    /// the node: nothing is shared with it, and nothing stays.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn try_out(options: &RedirectOptions) -> Result<(), RedirectError> {
        let cgroups = Cgroups::find(options.cgroup.as_deref(), options.pods_cgroup.as_deref())?;
        let constants = Constants {
            unknown_pods: options.unknown_pods,
            pods_cgroup: cgroups.pods.as_ref().map(Cgroup::id),
            log: options.log,
        };
        let mut object = load::load(constants, &options.map_sizes, None)?;
        probe::try_attaching(&mut object, &cgroups.attached).map(drop)
    }

    /// An agent with this pin directory has captured pods here since the node's start, whether it
    /// runs or not.
    pub fn has_captured(pin_directory: &Path) -> bool {
        pins::has_links(pin_directory)
    }

    /// Captures a pod: arriving connections first, then the ones that it opens. The
    /// outbound listener must be open already.
    ///
    /// # Errors
    /// When the namespace is the node's own or captured already, a table is full, or the
    /// program can't be attached; nothing stays then.
    pub fn capture(&self, config: &PodRedirectConfig<'_>) -> Result<PodRedirect, RedirectError> {
        let mut pod = self.prepare(config.namespace)?;
        pod.update(config)?;
        Ok(pod)
    }

    /// Takes over what an earlier agent left of a pod, and changes nothing yet: the pod can be
    /// refused by [`PodRedirect::enforce`], captured by [`PodRedirect::update`].
    ///
    /// # Errors
    /// When the namespace is the node's own, or belongs to another pod.
    pub fn prepare(&self, namespace: &NetworkNamespace) -> Result<PodRedirect, RedirectError> {
        PodRedirect::prepare(&self.kernel, namespace)
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
        state
            .tables
            .set_namespace(cookie, NamespaceEntry::new(NamespaceRole::Outside))?;
        state.forget_unknown(cookie)?;
        let KernelState {
            tables, inherited, ..
        } = &mut *state;
        // Known until all of it is gone.
        if let Some(old) = inherited.get_mut(&cookie) {
            tables.remove_entries(cookie, old)?;
            inherited.remove(&cookie);
        }
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

    /// Takes away what earlier agents of this version left of pods, and this one has not taken
    /// over: call it when every pod of the node that may not be open is refused or captured by
    /// this agent, and all others are known. Does nothing without a pin directory.
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
        let mut result = Ok(());
        // What can't be removed stays known, to be tried again.
        inherited.retain(|&cookie, written| {
            let removed = tables.remove_entries(cookie, written);
            let removed = removed.and_then(|()| tables.remove_namespace(cookie));
            let failed = removed.is_err();
            result = std::mem::replace(&mut result, Ok(())).and(removed);
            failed
        });
        result?;
        match pins {
            Some(pins) => Ok(pins.remove_leftovers()?),
            None => Ok(()),
        }
    }

    /// Takes away everything that agents of other versions left, whose programs run beside
    /// this one's until then: call it when every pod of the node that was found and may not be
    /// open is refused or captured by this agent.
    ///
    /// # Errors
    /// When a pin can't be removed.
    pub fn remove_other_versions(&self) -> Result<(), RedirectError> {
        match &self.kernel.lock().pins {
            Some(pins) => Ok(pins.remove_other_versions()?),
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

    /// Lets a successor take over while this agent's open connections end: what is attached and
    /// pinned stays until then. To be called once every pod was left or released, and nobody asks for
    /// a change any more.
    pub fn hand_over(&self) {
        self.leave_enforced();
        let mut state = self.kernel.lock();
        // As when this agent ends: what arrives at those goes on to be dropped.
        state.unknown.clear();
        // With it goes the lock.
        state.pins = None;
    }

    /// Looks whether kubelet is still the process that it was; to be called every second. Reads
    /// `/proc`.
    ///
    /// # Errors
    /// When the kernel doesn't let the map be written.
    pub fn look_for_kubelet(&self) -> Result<(), RedirectError> {
        self.kernel.lock().kubelets.look()
    }

    /// The maps that the proxy asks about single sockets.
    pub fn sockets(&self) -> Arc<SocketMaps> {
        Arc::clone(&self.sockets)
    }

    /// Lets held connections go on, or ends them.
    pub fn held(&self) -> Arc<HeldConnections> {
        Arc::clone(&self.held)
    }

    /// The connections that are held from now on. Nobody else reads them, and each wants an
    /// answer. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When somebody reads them already.
    pub fn held_attempts(&self) -> Result<HeldAttempts, RedirectError> {
        HeldAttempts::from_object(&mut self.kernel.lock().object)
    }

    /// Follows applications that end to listen, so that connections to where none does are refused
    /// from then on, too. The future is to be run, on a tokio runtime, for as long as pods are
    /// captured.
    ///
    /// # Errors
    /// When somebody follows them already.
    pub fn follow_listening(
        &self,
    ) -> Result<impl Future<Output = std::io::Result<()>> + Send + use<>, RedirectError> {
        let mut state = self.kernel.lock();
        let events = take_map(&mut state.object, map::LISTENING_EVENTS)?;
        Ok(listening::follow_events(
            events,
            Arc::clone(&state.listening),
        ))
    }

    /// The number of times that each program came to each verdict, without zeros.
    pub fn counters(&self) -> Vec<Counter> {
        self.counters.read()
    }

    /// Sizes of the tables.
    pub fn table_sizes(&self) -> TableSizes {
        let state = self.kernel.lock();
        state.tables.sizes(state.listening.len())
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

/// Attaches the programs that all pods share, to the cgroup of everybody and to that of pods where
/// there is one. Those of an earlier agent are taken off once these run.
fn attach(
    object: &mut Ebpf,
    (everybody, pods): (&Cgroup, Option<&Cgroup>),
    unknown_pods: UnknownPods,
    pins: Option<&Pins>,
) -> Result<Vec<ProgramLink>, RedirectError> {
    let mut links = links::attach_cgroup(object, everybody, pins)?;
    let pods = pods.unwrap_or(everybody);
    links.extend(ingress::attach(object, pods, unknown_pods, pins)?);
    if let Some(pins) = pins {
        pins.remove_older_cgroup_links()?;
    }
    Ok(links)
}

/// Whether this process may answer applications that wait in `connect()`.
fn can_hold(held: &HeldConnections) -> bool {
    match held.try_answering() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "connect() of applications succeeds before anybody has answered at their destinations: the agent needs CAP_NET_RAW to make it wait");
            false
        }
    }
}
