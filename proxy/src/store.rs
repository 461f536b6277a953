//! The mesh as the proxy knows it now.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use weft_model::revocation::RevocationList;
use weft_model::{Change, Mesh};

use crate::key_requests::KeyRequests;

/// The current snapshot: read without waiting, changed by one writer at a time.
#[derive(Debug)]
pub struct Store {
    snapshot: ArcSwap<Mesh>,
    /// Keys that it lacks.
    key_requests: Arc<KeyRequests>,
    /// Counts changes; its lock also orders the writers.
    generation: Mutex<watch::Sender<u64>>,
    revocations: watch::Sender<Arc<RevocationList>>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty mesh.
    pub fn new() -> Self {
        let generation = Mutex::new(watch::Sender::new(0));
        Self {
            snapshot: ArcSwap::default(),
            key_requests: Arc::default(),
            generation,
            revocations: watch::Sender::default(),
        }
    }

    /// What the mesh consists of now.
    pub fn snapshot(&self) -> Arc<Mesh> {
        self.snapshot.load_full()
    }

    /// Applies changes together: readers see all of them or none.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        let generation = self
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut mesh = Mesh::clone(&self.snapshot.load());
        mesh.apply_all(changes);
        self.revocations.send_if_modified(|known| {
            let is_news = !Arc::ptr_eq(known, mesh.revocations());
            known.clone_from(mesh.revocations());
            is_news
        });
        self.snapshot.store(Arc::new(mesh));
        generation.send_modify(|count| *count += 1);
    }

    /// The certificates that are revoked, and notice of every new list.
    pub fn revocations(&self) -> watch::Receiver<Arc<RevocationList>> {
        self.revocations.subscribe()
    }

    /// Keys of issuers of tokens that it lacks.
    pub(crate) fn key_requests(&self) -> &Arc<KeyRequests> {
        &self.key_requests
    }

    /// Wakes whenever the mesh changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .subscribe()
    }
}
