//! Objects by kind and name, whatever kinds there are.

use std::collections::BTreeMap;

use weft_model::NamespacedName;

use super::conflict::Conflict;
use crate::kinds::{
    AuthorizationPolicyObject, Kind, ListedKind, Object, ObjectKey, RequestAuthenticationObject,
};
use crate::source::Origin;

/// Objects of all kinds. Of several with one name, the one of the first origin counts.
#[derive(Debug, Default)]
pub(super) struct Tables {
    by_kind: BTreeMap<Kind, Table>,
    /// Objects that don't count because another of their name does.
    duplicates: BTreeMap<ObjectKey, Vec<Conflict>>,
}

/// Objects of one kind by name; those of one name by origin, one at least.
type Table = BTreeMap<NamespacedName, Vec<(Origin, Object)>>;

impl Tables {
    /// The object of a type and name that counts.
    pub(super) fn get<T: ListedKind>(&self, name: &NamespacedName) -> Option<&T> {
        self.entry(T::KIND, name).map(|(_, object)| object)
    }

    /// The object of a type, kind and name that counts, with its origin.
    pub(super) fn entry<T: ListedKind>(
        &self,
        kind: Kind,
        name: &NamespacedName,
    ) -> Option<(&Origin, &T)> {
        let (origin, object) = self.by_kind.get(&kind)?.get(name)?.first()?;
        Some((origin, T::of(object)?))
    }

    /// The object that counts.
    pub(super) fn object(&self, key: &ObjectKey) -> Option<&Object> {
        let (_, object) = self.by_kind.get(&key.kind)?.get(&key.name)?.first()?;
        Some(object)
    }

    /// The origin of the object that counts.
    pub(super) fn origin(&self, key: &ObjectKey) -> Option<&Origin> {
        let (origin, _) = self.by_kind.get(&key.kind)?.get(&key.name)?.first()?;
        Some(origin)
    }

    /// All of a type that count, by name.
    pub(super) fn all<T: ListedKind>(&self) -> impl Iterator<Item = (&NamespacedName, &T)> {
        let table = self.by_kind.get(&T::KIND).into_iter().flatten();
        table.filter_map(|(name, objects)| Some((name, T::of(&objects.first()?.1)?)))
    }

    /// Those of a type and namespace that count, by name.
    pub(super) fn in_namespace<T: ListedKind>(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = (&NamespacedName, &T)> {
        let first = NamespacedName::new(namespace, "");
        let namespace = first.namespace.clone();
        let table = self.by_kind.get(&T::KIND).into_iter();
        table
            .flat_map(move |table| table.range(first.clone()..))
            .take_while(move |(name, _)| name.namespace == namespace)
            .filter_map(|(name, objects)| Some((name, T::of(&objects.first()?.1)?)))
    }

    /// AuthorizationPolicies and RequestAuthentications of a namespace.
    pub(super) fn authorization_policies(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = &AuthorizationPolicyObject> {
        let policies = self.in_namespace::<AuthorizationPolicyObject>(namespace);
        let tokens = self.in_namespace::<RequestAuthenticationObject>(namespace);
        let policies = policies.map(|(_, policy)| policy);
        policies.chain(tokens.map(|(_, object)| &object.policy))
    }

    /// The object that an origin has, whether it counts or not.
    pub(super) fn of_origin(&self, origin: &Origin, key: &ObjectKey) -> Option<&Object> {
        let objects = self.by_kind.get(&key.kind)?.get(&key.name)?;
        let found = objects.iter().find(|(known, _)| known == origin);
        found.map(|(_, object)| object)
    }

    /// That origin has exactly that object already.
    pub(super) fn contains(&self, origin: &Origin, key: &ObjectKey, object: &Object) -> bool {
        self.of_origin(origin, key) == Some(object)
    }

    /// Every object of that kind, whether it counts or not.
    pub(super) fn keys(&self, kind: Kind) -> Vec<(Origin, ObjectKey)> {
        let table = self.by_kind.get(&kind).into_iter().flatten();
        let origins = table.flat_map(|(name, objects)| objects.iter().map(move |one| (name, one)));
        let keys = origins.map(|(name, (origin, _))| {
            let name = name.clone();
            (origin.clone(), ObjectKey { kind, name })
        });
        keys.collect()
    }

    /// Objects that don't count because another of their name does.
    pub(super) fn duplicates(&self) -> impl Iterator<Item = &Conflict> {
        self.duplicates.values().flatten()
    }

    /// An origin has that object now.
    pub(super) fn insert(&mut self, key: &ObjectKey, origin: Origin, object: Object) {
        let table = self.by_kind.entry(key.kind).or_default();
        // Nearly always there is one.
        let objects = table.entry(key.name.clone());
        let objects = objects.or_insert_with(|| Vec::with_capacity(1));
        match objects.binary_search_by(|(known, _)| known.cmp(&origin)) {
            Ok(index) => objects[index] = (origin, object),
            Err(index) => objects.insert(index, (origin, object)),
        }
        self.find_duplicates(key);
    }

    /// An origin has that object no more.
    pub(super) fn remove(&mut self, key: &ObjectKey, origin: &Origin) {
        let Some(table) = self.by_kind.get_mut(&key.kind) else {
            return;
        };
        if let Some(objects) = table.get_mut(&key.name) {
            objects.retain(|(known, _)| known != origin);
            if objects.is_empty() {
                table.remove(&key.name);
            }
        }
        self.find_duplicates(key);
    }

    fn find_duplicates(&mut self, key: &ObjectKey) {
        let objects = self.by_kind.get(&key.kind);
        let objects = objects.and_then(|table| table.get(&key.name));
        match objects.map(Vec::as_slice) {
            Some([(first, _), ignored @ ..]) if !ignored.is_empty() => {
                let conflicts = ignored.iter().map(|(origin, _)| Conflict::Duplicate {
                    object: key.to_string(),
                    origin: origin.clone(),
                    first: first.clone(),
                });
                self.duplicates.insert(key.clone(), conflicts.collect());
            }
            _ => {
                self.duplicates.remove(key);
            }
        }
    }
}
