//! What agents have to be told.

use weft_model::mesh::Change;

/// Changes of resources, on their way to agents.
#[derive(Debug, Default)]
pub(super) struct Changes {
    changed: Vec<Change>,
    removed: Vec<Change>,
}

impl Changes {
    /// A resource is new or different.
    pub(super) fn push_changed(&mut self, change: Change) {
        self.changed.push(change);
    }

    /// A resource is gone.
    pub(super) fn push_removed(&mut self, change: Change) {
        self.removed.push(change);
    }

    /// All of them, in an order in which no resource comes before what it refers to, nor
    /// goes after it. Pushed were workloads first, what refers to others last.
    pub(super) fn in_order(self, is_still_there: impl Fn(&Change) -> bool) -> Vec<Change> {
        let Self {
            mut changed,
            mut removed,
        } = self;
        removed.retain(|change| !is_still_there(change));
        changed.extend(removed.into_iter().rev());
        changed
    }
}
