//! Public keys of issuers of tokens, as they were fetched from their addresses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::request_authentication::JsonWebKey;

use super::tables::Tables;
use crate::kinds::{KindObject, RequestAuthenticationObject};

/// Addresses of key sets.
pub(crate) type KeyAddresses = BTreeSet<Arc<str>>;

/// What became of fetching a key set: the keys, or why there are none.
pub(crate) type FetchedKeys = Result<Vec<JsonWebKey>, String>;

/// The key sets that were fetched, by their addresses.
#[derive(Debug, Default)]
pub(super) struct KeySets(HashMap<Arc<str>, KeySet>);

#[derive(Debug, Default)]
struct KeySet {
    /// The last good ones.
    keys: Vec<JsonWebKey>,
    /// Why there are none that are newer.
    error: Option<String>,
}

impl KeySets {
    /// The last good keys of an address; none before some were fetched.
    pub(super) fn keys(&self, address: &str) -> &[JsonWebKey] {
        let set = self.0.get(address);
        set.map(|set| &*set.keys).unwrap_or_default()
    }

    /// Why there are no keys; `None` also before anybody has asked for them.
    fn problem(&self, address: &str) -> Option<&str> {
        let set = self.0.get(address)?;
        let error = set.error.as_deref();
        error.filter(|_| set.keys.is_empty())
    }

    /// Takes in what became of fetching a key set. Gives the policies, by the names that agents know,
    /// that it is news for.
    pub(super) fn set(
        &mut self,
        address: &Arc<str>,
        fetched: FetchedKeys,
        wanted: &KeyAddresses,
        tables: &Tables,
    ) -> BTreeSet<NamespacedName> {
        self.0.retain(|address, _| wanted.contains(address));
        match wanted.contains(address) && self.update(address, fetched) {
            true => waiting(address, tables),
            false => BTreeSet::new(),
        }
    }

    /// The last good keys stay while fetching fails. True when there is something to tell.
    fn update(&mut self, address: &Arc<str>, fetched: FetchedKeys) -> bool {
        let set = self.0.entry(Arc::clone(address)).or_default();
        let (keys, error) = match fetched {
            Ok(keys) => (keys, None),
            Err(error) => (set.keys.clone(), Some(error)),
        };
        let is_news = set.keys != keys || set.error != error;
        (set.keys, set.error) = (keys, error);
        is_news
    }

    /// The complaint of a RequestAuthentication, by the name that agents know, one of whose issuers
    /// has no keys yet.
    pub(super) fn missing(&self, told: &NamespacedName, tables: &Tables) -> Option<String> {
        let name = RequestAuthenticationObject::name_of_told(told)?;
        let object: &RequestAuthenticationObject = tables.get(&name)?;
        object.key_addresses.iter().flatten().find_map(|address| {
            let problem = self.problem(address)?;
            Some(format!(
                "the keys at {address} are not known ({problem}): until they are, tokens of their \
                 issuer are refused"
            ))
        })
    }
}

/// The addresses of all key sets that somebody asks for of whom agents are told.
pub(super) fn addresses(
    tables: &Tables,
    is_told: impl Fn(&NamespacedName) -> bool,
) -> KeyAddresses {
    let all = tables.all::<RequestAuthenticationObject>();
    let told = all.filter(|(_, object)| is_told(&object.policy.key));
    let addresses = told.flat_map(|(_, object)| object.key_addresses.iter().flatten());
    addresses.cloned().collect()
}

/// The policies, by the names that agents know, that have their keys from an address.
fn waiting(address: &Arc<str>, tables: &Tables) -> BTreeSet<NamespacedName> {
    let all = tables.all::<RequestAuthenticationObject>();
    let waiting =
        all.filter(|(_, object)| object.key_addresses.contains(&Some(Arc::clone(address))));
    let names = waiting.map(|(_, object)| RequestAuthenticationObject::told_name(&object.name()));
    names.collect()
}
