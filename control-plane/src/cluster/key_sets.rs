//! Key sets of issuers of tokens: which are wanted, and what became of fetching them.

use std::sync::Arc;

use super::Cluster;
use crate::index::{FetchedKeys, KeyAddresses};

impl Cluster {
    /// The addresses of all key sets that somebody asks for.
    pub(crate) fn key_addresses(&self) -> KeyAddresses {
        self.lock().index.key_addresses()
    }

    /// Takes in what became of fetching a key set, and publishes what follows.
    pub(crate) fn set_keys(&self, address: &Arc<str>, fetched: FetchedKeys) {
        let mut known = self.lock();
        known.index.set_keys(address, fetched);
        self.publish(&mut known);
    }
}
