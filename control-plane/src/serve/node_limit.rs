//! What one node may have of something, however many times its agent's token was stolen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A limit for each node.
#[derive(Debug)]
pub(crate) struct NodeLimit {
    most: usize,
    by_node: Mutex<HashMap<String, usize>>,
}

/// One of those that a node has; given back when dropped.
#[derive(Debug)]
pub(crate) struct NodeShare {
    limit: Arc<NodeLimit>,
    node: String,
}

impl NodeLimit {
    /// So many for each node, of which none has any.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            by_node: Mutex::default(),
        })
    }

    /// One more of a node; `None` when it has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, node: &str) -> Option<NodeShare> {
        let mut by_node = self.lock();
        let taken = by_node.get(node).copied().unwrap_or_default();
        if taken >= self.most {
            return None;
        }
        by_node.insert(node.to_owned(), taken + 1);
        Some(NodeShare {
            limit: Arc::clone(self),
            node: node.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NodeShare {
    fn drop(&mut self) {
        let mut by_node = self.limit.lock();
        if let Some(taken) = by_node.get_mut(&self.node) {
            *taken -= 1;
            if *taken == 0 {
                by_node.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_takes_nothing_of_another() {
        let limit = NodeLimit::new(2);
        let take = |node| limit.take(node);
        let mut first: Vec<_> = std::iter::from_fn(|| take("node-1")).collect();
        assert_eq!(first.len(), 2);
        let other = take("node-2");
        assert!(other.is_some());
        first.pop();
        assert!(take("node-1").is_some());
        drop((first, other));
        assert!(limit.lock().is_empty());
    }
}
