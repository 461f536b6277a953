//! Single sockets: the proxy asks the kernel about those it accepts, and tells it about
//! those it opens.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{MapData, MapError, SkStorage};
use weft_ebpf_common::{NodeProcess, OwnSocket, StoredDestination, map};
use weft_model::OriginalDestination;
use weft_model::authorization::PlaintextOrigin;

use super::error::RedirectError;
use super::object::take_map;
use crate::namespaces::pod_of_cgroups;

/// The maps by which the proxy and the kernel speak about single sockets.
#[derive(Debug)]
pub struct SocketMaps {
    /// aya wants exclusive access to write. Held for one system call, never while waiting.
    own_sockets: Mutex<SkStorage<MapData, OwnSocket>>,
    destinations: SkStorage<MapData, StoredDestination>,
    node_sockets: SkStorage<MapData, NodeProcess>,
    /// The kernel itself tells a pod's process from the node's.
    pods_are_known_to_kernel: bool,
}

impl SocketMaps {
    pub(super) fn from_object(
        object: &mut Ebpf,
        pods_are_known_to_kernel: bool,
    ) -> Result<Self, RedirectError> {
        Ok(Self {
            own_sockets: Mutex::new(take_map(object, map::OWN_SOCKETS)?),
            destinations: take_map(object, map::DESTINATIONS)?,
            node_sockets: take_map(object, map::NODE_SOCKETS)?,
            pods_are_known_to_kernel,
        })
    }

    /// Marks a socket as the proxy's own, before it connects to the network: it isn't
    /// captured.
    ///
    /// # Errors
    /// When the kernel has no memory for the mark. The socket must not be used then.
    pub fn mark_upstream(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(socket, OwnSocket::upstream())
    }

    /// Marks a socket as the proxy's own, before it connects to the pod's application,
    /// which will see `client` as its peer.
    ///
    /// # Errors
    /// When the kernel has no memory for the mark. The socket must not be used then.
    pub fn mark_application(&self, socket: BorrowedFd<'_>, client: SocketAddr) -> io::Result<()> {
        self.mark(socket, OwnSocket::application(client.into()))
    }

    fn mark(&self, socket: BorrowedFd<'_>, own: OwnSocket) -> io::Result<()> {
        let mut map = self
            .own_sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        map.insert(&socket, own, 0).map_err(system_error)
    }

    /// The destination that the application behind an accepted outbound connection wanted.
    ///
    /// # Errors
    /// `NotFound` when the connection wasn't captured: someone connected to the proxy's
    /// port directly.
    pub fn original_destination(
        &self,
        accepted: BorrowedFd<'_>,
    ) -> io::Result<OriginalDestination> {
        match self.destinations.get(&accepted, 0) {
            Ok(destination) => Ok(OriginalDestination::new(destination.address.into())),
            Err(MapError::KeyNotFound) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the connection was not captured: someone connected to the proxy's port itself",
            )),
            Err(error) => Err(system_error(error)),
        }
    }

    /// The origin of a connection that an inbound listener has accepted, as the kernel
    /// recorded it when it was opened.
    pub fn origin(&self, accepted: BorrowedFd<'_>) -> PlaintextOrigin {
        // Also when the map can't be read: whoever isn't proven to be the node is not.
        let Ok(record) = self.node_sockets.get(&accepted, 0) else {
            return PlaintextOrigin::Network;
        };
        // A pod may be in the node's network namespace, and is no less a pod there.
        let is_outside_pods = match pod_of_process(u32::from_ne_bytes(record.process)) {
            Ok(pod) => pod.is_none(),
            // Its process has ended, but the kernel has looked when it connected.
            Err(_) => self.pods_are_known_to_kernel,
        };
        match (is_outside_pods, record.is_kubelet) {
            (false, _) => PlaintextOrigin::Network,
            (true, 1) => PlaintextOrigin::Kubelet,
            (true, _) => PlaintextOrigin::Node,
        }
    }
}

/// The pod that a process belongs to, by its cgroups.
///
/// # Errors
/// When there is no such process (any more).
fn pod_of_process(process: u32) -> io::Result<Option<String>> {
    let cgroups = std::fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    Ok(pod_of_cgroups(&cgroups))
}

/// aya's error with the kernel's own reason in it, where there is one.
fn system_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        error => io::Error::other(error),
    }
}
