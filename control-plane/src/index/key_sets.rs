//! Public keys of issuers of tokens, as they were fetched.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::request_authentication::JsonWebKey;

use super::tables::Tables;
use crate::kinds::{KeySource, KindObject, RequestAuthenticationObject};

/// Where key sets are fetched, and the namespaces that ask for each of them.
pub(crate) type KeySources = BTreeMap<KeySource, BTreeSet<Arc<str>>>;

/// What became of fetching a key set: the keys, or why there are none.
pub(crate) type FetchedKeys = Result<Vec<JsonWebKey>, String>;

/// The key sets that were fetched.
#[derive(Debug, Default)]
pub(super) struct KeySets(HashMap<KeySource, KeySet>);

#[derive(Debug, Default)]
struct KeySet {
    /// The last good ones.
    keys: Vec<JsonWebKey>,
    /// Why there are none that are newer.
    error: Option<String>,
}

impl KeySets {
    /// The last good keys of a source; none before some were fetched.
    pub(super) fn keys(&self, source: &KeySource) -> &[JsonWebKey] {
        let set = self.0.get(source);
        set.map(|set| &*set.keys).unwrap_or_default()
    }

    /// Why there are no keys; `None` also before anybody has asked for them.
    fn problem(&self, source: &KeySource) -> Option<&str> {
        let set = self.0.get(source)?;
        let error = set.error.as_deref();
        error.filter(|_| set.keys.is_empty())
    }

    /// Takes in what became of fetching a key set. Gives the policies, by the names that agents know,
    /// that it is news for.
    pub(super) fn set(
        &mut self,
        source: &KeySource,
        fetched: FetchedKeys,
        wanted: &KeySources,
        tables: &Tables,
    ) -> BTreeSet<NamespacedName> {
        self.0.retain(|source, _| wanted.contains_key(source));
        match wanted.contains_key(source) && self.update(source, fetched) {
            true => waiting(source, tables),
            false => BTreeSet::new(),
        }
    }

    /// The last good keys stay while fetching fails. True when there is something to tell.
    fn update(&mut self, source: &KeySource, fetched: FetchedKeys) -> bool {
        let set = self.0.entry(source.clone()).or_default();
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
        object.key_sources.iter().flatten().find_map(|source| {
            let problem = self.problem(source)?;
            Some(format!(
                "the keys at {source} are not known ({problem}): until they are, tokens of their \
                 issuer are refused"
            ))
        })
    }
}

/// Where all key sets are that somebody asks for of whom agents are told.
pub(super) fn sources(tables: &Tables, is_told: impl Fn(&NamespacedName) -> bool) -> KeySources {
    let mut sources = KeySources::new();
    for (name, object) in tables.all::<RequestAuthenticationObject>() {
        if !is_told(&object.policy.key) {
            continue;
        }
        for source in object.key_sources.iter().flatten() {
            let namespaces = sources.entry(source.clone()).or_default();
            namespaces.insert(Arc::clone(&name.namespace));
        }
    }
    sources
}

/// The policies, by the names that agents know, that have their keys from a source.
fn waiting(source: &KeySource, tables: &Tables) -> BTreeSet<NamespacedName> {
    let all = tables.all::<RequestAuthenticationObject>();
    let waiting =
        all.filter(|(_, object)| object.key_sources.iter().flatten().any(|own| own == source));
    let names = waiting.map(|(_, object)| RequestAuthenticationObject::told_name(&object.name()));
    names.collect()
}
