//! Records of connections that are just being opened: the programs write and remove them.

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use weft_ebpf_common::{
    Connection, NamespacedConnection, NodeProcess, OpeningNode, OpeningOwn, OpeningSlot,
    PendingConnection, PendingSlot, SocketAddress, map,
};

use super::error::RedirectError;
use super::object::take_map;
use super::table_sizes::RecordCounts;

/// The maps of such records: those of each pod's own places, and those of all others.
pub(super) struct Records {
    pending_slots: HashMap<MapData, PendingSlot, PendingConnection>,
    pending: HashMap<MapData, NamespacedConnection, SocketAddress>,
    own_slots: HashMap<MapData, OpeningSlot, OpeningOwn>,
    own: HashMap<MapData, Connection, SocketAddress>,
    node_slots: HashMap<MapData, OpeningSlot, OpeningNode>,
    node: HashMap<MapData, Connection, NodeProcess>,
}

impl Records {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self {
            pending_slots: take_map(object, map::PENDING_SLOTS)?,
            pending: take_map(object, map::PENDING)?,
            own_slots: take_map(object, map::OWN_SLOTS)?,
            own: take_map(object, map::OWN_CONNECTIONS)?,
            node_slots: take_map(object, map::NODE_SLOTS)?,
            node: take_map(object, map::NODE_CONNECTIONS)?,
        })
    }

    /// The number of records. Walks through them all.
    pub(super) fn counts(&self) -> RecordCounts {
        RecordCounts {
            pending: self.pending_slots.keys().count() + self.pending.keys().count(),
            own_connections: self.own_slots.keys().count() + self.own.keys().count(),
            node_connections: self.node_slots.keys().count() + self.node.keys().count(),
        }
    }
}
