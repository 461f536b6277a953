//! Resources as agents have them.

use std::collections::HashMap;
use std::hash::Hash;

use weft_model::mesh::Change;

use super::changes::Changes;

/// The consequence of a mistake, for the author of an object that had none before.
pub(super) const STAYS_IN_FORCE: &str = "what it said before stays in force";

/// A resource that agents are told of.
pub(super) trait Resource: Clone + PartialEq {
    /// Its name.
    type Key: Clone + Eq + Hash;

    /// The change of one that is new or different.
    fn changed(self) -> Change;

    /// The change of one that is gone.
    fn removed(key: Self::Key) -> Change;
}

/// Resources of one type as agents have them.
#[derive(Debug)]
pub(super) struct Published<T: Resource> {
    by_key: HashMap<T::Key, T>,
}

impl<T: Resource> Default for Published<T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
        }
    }
}

impl<T: Resource> Published<T> {
    /// Sets what a resource is now, none when it is gone, and pushes what of that agents
    /// don't have yet.
    pub(super) fn set(&mut self, key: &T::Key, now: Option<T>, changes: &mut Changes) {
        match now {
            Some(now) if self.by_key.get(key) == Some(&now) => {}
            Some(now) => {
                changes.push_changed(now.clone().changed());
                self.by_key.insert(key.clone(), now);
            }
            None => {
                if self.by_key.remove(key).is_some() {
                    changes.push_removed(T::removed(key.clone()));
                }
            }
        }
    }
}
