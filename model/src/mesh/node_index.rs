//! Nodes by name and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::node::Node;

/// All nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeIndex {
    by_name: HashMap<Arc<str>, Arc<Node>>,
    by_address: HashMap<IpAddr, Arc<Node>>,
}

impl NodeIndex {
    /// The node of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name)
    }

    /// Whether a node has a canonical address.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// All nodes, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.by_name.values()
    }

    /// Adds a node, or replaces the one of its name.
    pub(super) fn insert(&mut self, node: Arc<Node>) {
        self.remove(&node.name);
        for address in &node.addresses {
            self.by_address.insert(*address, Arc::clone(&node));
        }
        self.by_name.insert(Arc::clone(&node.name), node);
    }

    /// Removes a node.
    pub(super) fn remove(&mut self, name: &str) {
        let Some(old) = self.by_name.remove(name) else {
            return;
        };
        for address in &old.addresses {
            // A new node may have taken the address before the old one was removed.
            let owner = self.by_address.get(address);
            if owner.is_some_and(|owner| owner.name == old.name) {
                self.by_address.remove(address);
            }
        }
    }
}

#[cfg(test)]
impl NodeIndex {
    /// Asserts that the index points at nodes that exist.
    pub(super) fn assert_consistent(&self) {
        for (address, node) in &self.by_address {
            assert!(node.addresses.contains(address));
            assert!(Arc::ptr_eq(node, &self.by_name[&node.name]));
        }
    }
}
