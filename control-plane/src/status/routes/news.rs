//! Routes that there is something else to say of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use weft_model::NamespacedName;
use weft_model::route::{RouteKey, RouteKind};

/// Routes whose status may have to be written, each once however often it changes. They
/// wait until somebody takes them: whoever holds the lease.
#[derive(Debug)]
pub(crate) struct RouteNews {
    waiting: Mutex<BTreeMap<RouteKind, BTreeSet<NamespacedName>>>,
    told: watch::Sender<()>,
}

impl Default for RouteNews {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            told: watch::Sender::new(()),
        }
    }
}

impl RouteNews {
    /// There is something else to say of a route.
    pub(crate) fn tell(&self, route: RouteKey) {
        let mut waiting = self.lock();
        waiting.entry(route.kind).or_default().insert(route.name);
        drop(waiting);
        self.told.send_replace(());
    }

    /// There is nothing to say of a route any more.
    pub(crate) fn forget(&self, route: &RouteKey) {
        if let Some(waiting) = self.lock().get_mut(&route.kind) {
            waiting.remove(&route.name);
        }
    }

    /// Those of a kind that wait; they don't afterwards.
    pub(super) fn take(&self, kind: RouteKind) -> BTreeSet<NamespacedName> {
        self.lock().remove(&kind).unwrap_or_default()
    }

    /// Changes whenever there is one more.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RouteKind, BTreeSet<NamespacedName>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
