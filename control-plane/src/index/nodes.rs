//! Nodes, which depend on nothing but themselves.

use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::node::Node;

use super::changes::Changes;
use super::objects::{Names, Objects};
use super::published::{Published, Resource};
use crate::kinds::NodeObject;

/// The nodes that agents have, and those that may be others by now.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    dirty: Names,
    published: Published<Node>,
}

impl Resource for Node {
    type Key = Arc<str>;

    fn changed(self) -> Change {
        Change::Node(self)
    }

    fn removed(key: Arc<str>) -> Change {
        Change::NodeRemoved(key)
    }
}

impl Nodes {
    /// A node is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, name: NamespacedName) {
        self.dirty.insert(name);
    }

    /// Looks at everything dirty.
    pub(super) fn update(&mut self, objects: &Objects, changes: &mut Changes) {
        for name in std::mem::take(&mut self.dirty) {
            let object = objects.tables.get::<NodeObject>(&name);
            let now = object.map(|object| object.node.clone());
            self.published.set(&name.name, now, changes);
        }
    }
}
