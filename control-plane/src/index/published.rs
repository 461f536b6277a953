//! Resources as agents have them.

use std::collections::HashMap;
use std::hash::Hash;

use weft_model::mesh::Change;

use super::changes::Changes;

/// Resources of one type as agents have them.
#[derive(Debug, PartialEq)]
pub(super) struct Published<K: Eq + Hash, T> {
    by_key: HashMap<K, T>,
}

impl<K: Eq + Hash, T> Default for Published<K, T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, T: Clone + PartialEq> Published<K, T> {
    /// Sets what a resource is now, none when it is gone, and pushes what of that agents
    /// don't have yet.
    pub(super) fn set(
        &mut self,
        key: &K,
        now: Option<T>,
        changes: &mut Changes,
        (changed, removed): (fn(T) -> Change, fn(K) -> Change),
    ) {
        match now {
            Some(now) if self.by_key.get(key) == Some(&now) => {}
            Some(now) => {
                changes.push_changed(changed(now.clone()));
                self.by_key.insert(key.clone(), now);
            }
            None => {
                if self.by_key.remove(key).is_some() {
                    changes.push_removed(removed(key.clone()));
                }
            }
        }
    }
}
