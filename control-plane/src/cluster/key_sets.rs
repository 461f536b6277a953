//! Key sets of issuers of tokens: which are wanted, and what became of fetching them.

use super::Cluster;
use crate::index::{FetchedKeys, KeySources};
use crate::kinds::KeySource;

impl Cluster {
    /// Where all key sets are that somebody asks for.
    pub(crate) fn key_sources(&self) -> KeySources {
        self.lock().index.key_sources()
    }

    /// Takes in what became of fetching a key set, and publishes what follows.
    pub(crate) fn set_keys(&self, source: &KeySource, fetched: FetchedKeys) {
        let mut known = self.lock();
        known.index.set_keys(source, fetched);
        self.publish(&mut known);
    }
}
