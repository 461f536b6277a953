//! Ports of pods that stay open to the node while no proxy runs.

use std::collections::HashSet;

use aya::Ebpf;
use aya::maps::{self, MapData};
use weft_ebpf_common::{NamespaceCookie, NodePort, map};
use weft_model::node_access::NodeAccess;

use super::error::RedirectError;
use super::object::{ignore_missing, take_map};

/// The map of ports that are open to the node. One writer at a time.
pub(super) struct NodePorts(maps::HashMap<MapData, NodePort, u8>);

impl NodePorts {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        take_map(object, map::NODE_PORTS).map(Self)
    }

    /// Replaces a pod's. What finds no place is closed: no reason not to capture the pod.
    pub(super) fn set(
        &mut self,
        pod: NamespaceCookie,
        access: &NodeAccess,
        written: &mut HashSet<u16>,
    ) -> Result<(), RedirectError> {
        let ports: HashSet<u16> = match access {
            NodeAccess::All => HashSet::from([u16::from_be_bytes(NodePort::ALL)]),
            NodeAccess::Probes(_) => access.ports().into_iter().collect(),
        };
        let old: Vec<_> = written.difference(&ports).copied().collect();
        for port in old {
            self.remove(pod, port)?;
            written.remove(&port);
        }
        for port in ports {
            // What is written is remembered first, and removed even if it wasn't.
            written.insert(port);
            let key = NodePort::new(pod.bytes, port.to_be_bytes());
            if let Err(error) = self.0.insert(key, 1, 0) {
                tracing::warn!(%error, port, "kubelet's probes of this port are refused while no agent runs");
            }
        }
        Ok(())
    }

    /// Removes all of a pod's, and forgets those that are gone. Goes on after a failure, and
    /// reports the first.
    pub(super) fn remove_all(
        &mut self,
        pod: NamespaceCookie,
        written: &mut HashSet<u16>,
    ) -> Result<(), RedirectError> {
        let mut result = Ok(());
        for port in written.clone() {
            let removed = self.remove(pod, port);
            if removed.is_ok() {
                written.remove(&port);
            }
            result = result.and(removed);
        }
        result
    }

    fn remove(&mut self, pod: NamespaceCookie, port: u16) -> Result<(), RedirectError> {
        let key = NodePort::new(pod.bytes, port.to_be_bytes());
        ignore_missing(self.0.remove(&key))
            .map_err(RedirectError::map(map::NODE_PORTS, "remove a port"))
    }

    /// All of them, by the cookie of their pod.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u16)> + '_ {
        let keys = self.0.keys().flatten();
        keys.map(|key| {
            (
                u64::from_ne_bytes(key.namespace),
                u16::from_be_bytes(key.port),
            )
        })
    }
}
