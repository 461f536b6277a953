//! Connections to pods that are being opened: kept by the end that opens them, for the end that
//! they make there. Each address has places of its own, so that those to one pod, however many,
//! never push out those to another.

use weft_ebpf_common::{
    Connection, NodeProcess, OpeningNode, OpeningOwn, OpeningSlot, SocketAddress,
};

use crate::maps;

/// The proxy connects to an application, which shall see that client.
#[inline(always)]
pub fn insert_own(connection: Connection, client: SocketAddress) {
    let own = OpeningOwn { connection, client };
    let slot = OpeningSlot::new(&connection);
    if maps::OWN_SLOTS
        .insert(slot, own, maps::BPF_NOEXIST)
        .is_err()
    {
        let _ = maps::OWN_CONNECTIONS.insert(connection, client, 0);
    }
}

/// Whether that is a connection of the proxy's to an application.
#[inline(always)]
pub fn is_own(connection: &Connection) -> bool {
    own_slot(connection).is_some() || maps::OWN_CONNECTIONS.get_ptr(connection).is_some()
}

/// The client of a connection of the proxy's, which is kept no longer.
#[inline(always)]
pub fn take_own(connection: &Connection) -> Option<SocketAddress> {
    if let Some(client) = own_slot(connection) {
        let _ = maps::OWN_SLOTS.remove(OpeningSlot::new(connection));
        return Some(client);
    }
    // SAFETY: written once, before the SYN was sent.
    let client = unsafe { maps::OWN_CONNECTIONS.get(connection) }.copied()?;
    let _ = maps::OWN_CONNECTIONS.remove(connection);
    Some(client)
}

#[inline(always)]
fn own_slot(connection: &Connection) -> Option<SocketAddress> {
    // SAFETY: written once, before the SYN was sent.
    let own = unsafe { maps::OWN_SLOTS.get(OpeningSlot::new(connection)) }.copied()?;
    (own.connection == *connection).then_some(own.client)
}

/// A process of the node connects, to a captured pod or to one that nobody has told of.
#[inline(always)]
pub fn insert_node(connection: Connection, process: NodeProcess) {
    if maps::POD_ADDRESSES
        .get_ptr(connection.destination.address)
        .is_none()
    {
        // Slots are for the pods that are known.
        let _ = maps::NODE_CONNECTIONS.insert(connection, process, 0);
        return;
    }
    let node = OpeningNode {
        connection,
        process,
    };
    let slot = OpeningSlot::new(&connection);
    if maps::NODE_SLOTS
        .insert(slot, node, maps::BPF_NOEXIST)
        .is_err()
    {
        let _ = maps::NODE_CONNECTIONS.insert(connection, process, 0);
    }
}

/// The process of the node that has opened that connection, if one has.
#[inline(always)]
pub fn node(connection: &Connection) -> Option<NodeProcess> {
    if let Some(process) = node_slot(connection) {
        return Some(process);
    }
    // SAFETY: written once, before the SYN was sent.
    unsafe { maps::NODE_CONNECTIONS.get(connection) }.copied()
}

/// The same, which is kept no longer.
#[inline(always)]
pub fn take_node(connection: &Connection) -> Option<NodeProcess> {
    if let Some(process) = node_slot(connection) {
        let _ = maps::NODE_SLOTS.remove(OpeningSlot::new(connection));
        return Some(process);
    }
    // SAFETY: written once, before the SYN was sent.
    let process = unsafe { maps::NODE_CONNECTIONS.get(connection) }.copied()?;
    let _ = maps::NODE_CONNECTIONS.remove(connection);
    Some(process)
}

#[inline(always)]
fn node_slot(connection: &Connection) -> Option<NodeProcess> {
    // SAFETY: written once, before the SYN was sent.
    let node = unsafe { maps::NODE_SLOTS.get(OpeningSlot::new(connection)) }.copied()?;
    (node.connection == *connection).then_some(node.process)
}
