//! The objects that are known, by name, and who refers to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weft_model::NamespacedName;
use weft_model::route::{RouteKey, RouteKind};

use super::Conflict;
use crate::manifest::{
    ExternalServiceObject, Kind, MeshConfigObject, NamespaceObject, NodeObject, Object, ObjectKey,
    PodObject, RouteObject, ServiceAccountObject, ServiceObject, SliceObject, TrafficPolicyObject,
};
use crate::source::Origin;

/// Objects of one kind by name. Of several with one name, the one of the first origin
/// counts.
#[derive(Debug)]
pub(super) struct Table<T> {
    by_name: BTreeMap<NamespacedName, BTreeMap<Origin, T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
        }
    }
}

impl<T> Table<T> {
    /// The one that counts.
    pub(super) fn get(&self, name: &NamespacedName) -> Option<&T> {
        self.entry(name).map(|(_, object)| object)
    }

    /// The one that counts, with its origin.
    pub(super) fn entry(&self, name: &NamespacedName) -> Option<(&Origin, &T)> {
        self.by_name.get(name)?.first_key_value()
    }

    /// All that count, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NamespacedName, &T)> {
        self.by_name
            .iter()
            .filter_map(|(name, origins)| Some((name, origins.first_key_value()?.1)))
    }

    /// Those of one namespace that count, by name.
    pub(super) fn in_namespace(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = (&NamespacedName, &T)> {
        let first = NamespacedName::new(namespace, "");
        let of_namespace = first.namespace.clone();
        self.by_name
            .range(first..)
            .take_while(move |(name, _)| name.namespace == of_namespace)
            .filter_map(|(name, origins)| Some((name, origins.first_key_value()?.1)))
    }

    /// The one of that origin, whether it counts or not.
    fn of(&self, name: &NamespacedName, origin: &Origin) -> Option<&T> {
        self.by_name.get(name)?.get(origin)
    }

    /// The origins that all say they have that object.
    fn origins(&self, name: &NamespacedName) -> impl Iterator<Item = &Origin> {
        self.by_name.get(name).into_iter().flat_map(BTreeMap::keys)
    }

    fn insert(&mut self, name: NamespacedName, origin: Origin, object: T) {
        self.by_name.entry(name).or_default().insert(origin, object);
    }

    fn remove(&mut self, name: &NamespacedName, origin: &Origin) {
        if let Some(origins) = self.by_name.get_mut(name) {
            origins.remove(origin);
            if origins.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    fn origins_of_all(&self) -> Vec<(NamespacedName, Origin)> {
        let all = self.by_name.iter();
        all.flat_map(|(name, origins)| origins.keys().map(|origin| (name.clone(), origin.clone())))
            .collect()
    }
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) pods: Table<PodObject>,
    pub(super) services: Table<ServiceObject>,
    pub(super) slices: Table<SliceObject>,
    pub(super) namespaces: Table<NamespaceObject>,
    pub(super) nodes: Table<NodeObject>,
    pub(super) service_accounts: Table<ServiceAccountObject>,
    pub(super) policies: Table<TrafficPolicyObject>,
    mesh_configs: Table<MeshConfigObject>,
    pub(super) externals: Table<ExternalServiceObject>,
    routes: BTreeMap<RouteKind, Table<RouteObject>>,
    /// The slices of a Service, and the Services whose slices name a pod.
    pub(super) slices_of: Links,
    pub(super) services_of: Links,
    /// The TrafficPolicies that are of a Service.
    pub(super) policies_of: Links,
    /// The routes that have a Service as parent or send to it.
    pub(super) routes_of: Links<RouteKey>,
    /// Objects that don't count because another of their name does.
    duplicates: BTreeMap<ObjectKey, Vec<Conflict>>,
}

impl Objects {
    /// What holds for the whole mesh.
    pub(super) fn mesh_config(&self) -> Option<&MeshConfigObject> {
        self.mesh_configs.iter().next().map(|(_, config)| config)
    }

    /// The route that counts.
    pub(super) fn route(&self, key: &RouteKey) -> Option<&RouteObject> {
        self.routes.get(&key.kind)?.get(&key.name)
    }

    /// The route that counts, with its origin.
    pub(super) fn route_entry(&self, key: &RouteKey) -> Option<(&Origin, &RouteObject)> {
        self.routes.get(&key.kind)?.entry(&key.name)
    }

    pub(super) fn insert(&mut self, origin: Origin, object: Object) {
        let key = object.key();
        let name = key.name.clone();
        match object {
            Object::Pod(object) => self.pods.insert(name, origin, object),
            Object::Service(object) => self.services.insert(name, origin, object),
            Object::Namespace(object) => self.namespaces.insert(name, origin, object),
            Object::Node(object) => self.nodes.insert(name, origin, object),
            Object::ServiceAccount(object) => self.service_accounts.insert(name, origin, object),
            Object::MeshConfig(object) => self.mesh_configs.insert(name, origin, object),
            Object::ExternalService(object) => self.externals.insert(name, origin, object),
            Object::TrafficPolicy(object) => {
                self.unlink_policy(&name);
                self.policies.insert(name.clone(), origin, object);
                self.link_policy(&name);
            }
            Object::EndpointSlice(object) => {
                self.unlink_slice(&name);
                self.slices.insert(name.clone(), origin, object);
                self.link_slice(&name);
            }
            Object::Route(object) => {
                let route = object.key.clone();
                self.unlink_route(&route);
                let routes = self.routes.entry(route.kind).or_default();
                routes.insert(name, origin, object);
                self.link_route(&route);
            }
        }
        self.find_duplicates(key);
    }

    pub(super) fn remove(&mut self, origin: &Origin, key: &ObjectKey) {
        let name = &key.name;
        match key.kind {
            Kind::Pod => self.pods.remove(name, origin),
            Kind::Service => self.services.remove(name, origin),
            Kind::Namespace => self.namespaces.remove(name, origin),
            Kind::Node => self.nodes.remove(name, origin),
            Kind::ServiceAccount => self.service_accounts.remove(name, origin),
            Kind::MeshConfig => self.mesh_configs.remove(name, origin),
            Kind::ExternalService => self.externals.remove(name, origin),
            Kind::TrafficPolicy => {
                self.unlink_policy(name);
                self.policies.remove(name, origin);
                self.link_policy(name);
            }
            Kind::EndpointSlice => {
                self.unlink_slice(name);
                self.slices.remove(name, origin);
                self.link_slice(name);
            }
            Kind::Route(kind) => {
                let name = name.clone();
                let route = RouteKey { kind, name };
                self.unlink_route(&route);
                let routes = self.routes.entry(kind).or_default();
                routes.remove(&route.name, origin);
                self.link_route(&route);
            }
        }
        self.find_duplicates(key.clone());
    }

    /// Whether that origin has exactly that object already.
    pub(super) fn contains(&self, origin: &Origin, object: &Object) -> bool {
        let name = object.key().name;
        match object {
            Object::Pod(object) => self.pods.of(&name, origin) == Some(object),
            Object::Service(object) => self.services.of(&name, origin) == Some(object),
            Object::Namespace(object) => self.namespaces.of(&name, origin) == Some(object),
            Object::Node(object) => self.nodes.of(&name, origin) == Some(object),
            Object::ServiceAccount(object) => {
                self.service_accounts.of(&name, origin) == Some(object)
            }
            Object::MeshConfig(object) => self.mesh_configs.of(&name, origin) == Some(object),
            Object::ExternalService(object) => self.externals.of(&name, origin) == Some(object),
            Object::TrafficPolicy(object) => self.policies.of(&name, origin) == Some(object),
            Object::EndpointSlice(object) => self.slices.of(&name, origin) == Some(object),
            Object::Route(object) => {
                let routes = self.routes.get(&object.key.kind);
                routes.and_then(|routes| routes.of(&name, origin)) == Some(object)
            }
        }
    }

    /// Every object of that kind, whether it counts or not.
    pub(super) fn of_kind(&self, kind: Kind) -> Vec<(Origin, ObjectKey)> {
        let all = match kind {
            Kind::Pod => self.pods.origins_of_all(),
            Kind::Service => self.services.origins_of_all(),
            Kind::Namespace => self.namespaces.origins_of_all(),
            Kind::Node => self.nodes.origins_of_all(),
            Kind::ServiceAccount => self.service_accounts.origins_of_all(),
            Kind::MeshConfig => self.mesh_configs.origins_of_all(),
            Kind::ExternalService => self.externals.origins_of_all(),
            Kind::TrafficPolicy => self.policies.origins_of_all(),
            Kind::EndpointSlice => self.slices.origins_of_all(),
            Kind::Route(kind) => {
                let routes = self.routes.get(&kind);
                routes.map(Table::origins_of_all).unwrap_or_default()
            }
        };
        let keyed = |(name, origin)| (origin, ObjectKey { kind, name });
        all.into_iter().map(keyed).collect()
    }

    /// Objects that don't count because another of their name does.
    pub(super) fn duplicates(&self) -> impl Iterator<Item = &Conflict> {
        self.duplicates.values().flatten()
    }

    fn link_slice(&mut self, name: &NamespacedName) {
        let Some(slice) = self.slices.get(name) else {
            return;
        };
        self.slices_of.add(slice.service.clone(), name.clone());
        for pod in slice.pods() {
            self.services_of.add(pod, slice.service.clone());
        }
    }

    fn unlink_slice(&mut self, name: &NamespacedName) {
        let Some(slice) = self.slices.get(name) else {
            return;
        };
        self.slices_of.remove(&slice.service, name);
        for pod in slice.pods() {
            self.services_of.remove(&pod, &slice.service);
        }
    }

    fn link_policy(&mut self, name: &NamespacedName) {
        let policy = self.policies.get(name);
        if let Some(target) = policy.and_then(|policy| policy.target.clone()) {
            self.policies_of.add(target, name.clone());
        }
    }

    fn unlink_policy(&mut self, name: &NamespacedName) {
        let policy = self.policies.get(name);
        if let Some(target) = policy.and_then(|policy| policy.target.as_ref()) {
            self.policies_of.remove(target, name);
        }
    }

    fn link_route(&mut self, key: &RouteKey) {
        let routes = self.routes.get(&key.kind);
        if let Some(route) = routes.and_then(|routes| routes.get(&key.name)) {
            for service in route.services() {
                self.routes_of.add(service.clone(), key.clone());
            }
        }
    }

    fn unlink_route(&mut self, key: &RouteKey) {
        let routes = self.routes.get(&key.kind);
        if let Some(route) = routes.and_then(|routes| routes.get(&key.name)) {
            for service in route.services() {
                self.routes_of.remove(service, key);
            }
        }
    }

    fn find_duplicates(&mut self, key: ObjectKey) {
        fn duplicates<T>(table: &Table<T>, key: &ObjectKey) -> Vec<Conflict> {
            let mut origins = table.origins(&key.name);
            let Some(first) = origins.next() else {
                return Vec::new();
            };
            let conflict = |origin: &Origin| Conflict::Duplicate {
                object: key.to_string(),
                origin: origin.clone(),
                first: first.clone(),
            };
            origins.map(conflict).collect()
        }
        let conflicts = match key.kind {
            Kind::Pod => duplicates(&self.pods, &key),
            Kind::Service => duplicates(&self.services, &key),
            Kind::Namespace => duplicates(&self.namespaces, &key),
            Kind::Node => duplicates(&self.nodes, &key),
            Kind::ServiceAccount => duplicates(&self.service_accounts, &key),
            Kind::MeshConfig => duplicates(&self.mesh_configs, &key),
            Kind::ExternalService => duplicates(&self.externals, &key),
            Kind::TrafficPolicy => duplicates(&self.policies, &key),
            Kind::EndpointSlice => duplicates(&self.slices, &key),
            Kind::Route(kind) => {
                let routes = self.routes.get(&kind);
                routes.map_or_else(Vec::new, |routes| duplicates(routes, &key))
            }
        };
        if conflicts.is_empty() {
            self.duplicates.remove(&key);
        } else {
            self.duplicates.insert(key, conflicts);
        }
    }
}

/// Who refers to a name. Counted, because two slices of one Service may name one pod.
#[derive(Debug)]
pub(super) struct Links<R = NamespacedName> {
    by_name: HashMap<NamespacedName, BTreeMap<R, usize>>,
}

impl<R> Default for Links<R> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
        }
    }
}

impl<R: Ord> Links<R> {
    /// Those that refer to a name.
    pub(super) fn of(&self, name: &NamespacedName) -> impl Iterator<Item = &R> {
        self.by_name.get(name).into_iter().flat_map(BTreeMap::keys)
    }

    fn add(&mut self, name: NamespacedName, referrer: R) {
        *self
            .by_name
            .entry(name)
            .or_default()
            .entry(referrer)
            .or_default() += 1;
    }

    fn remove(&mut self, name: &NamespacedName, referrer: &R) {
        let Some(referrers) = self.by_name.get_mut(name) else {
            return;
        };
        if let Some(count) = referrers.get_mut(referrer) {
            *count -= 1;
            if *count == 0 {
                referrers.remove(referrer);
            }
        }
        if referrers.is_empty() {
            self.by_name.remove(name);
        }
    }
}

/// Names of objects.
pub(super) type Names = BTreeSet<NamespacedName>;
