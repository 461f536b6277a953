//! Routes by name, and the compiled routes of the Services that they are attached to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::mesh::service_index::ServiceIndex;
use crate::name::NamespacedName;
use crate::route::key::RouteKey;
use crate::route::rule::Route;
use crate::route::table::ServiceRoutes;

/// All routes. Compiled when something changes, not when a request comes.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteIndex {
    by_name: HashMap<RouteKey, Arc<Route>>,
    /// Routes that name a Service as parent.
    by_parent: HashMap<NamespacedName, BTreeSet<RouteKey>>,
    /// The same, compiled.
    compiled: HashMap<NamespacedName, Arc<ServiceRoutes>>,
}

impl RouteIndex {
    /// The route of that key.
    pub(super) fn get(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.by_name.get(key)
    }

    /// The compiled routes that are attached to a Service.
    pub(super) fn of_service(&self, service: &NamespacedName) -> Option<&Arc<ServiceRoutes>> {
        self.compiled.get(service)
    }

    /// The compiled routes of all Services.
    pub(super) fn compiled(&self) -> impl Iterator<Item = &Arc<ServiceRoutes>> {
        self.compiled.values()
    }

    /// Adds a route, or replaces the one of its key.
    pub(super) fn insert(&mut self, route: Arc<Route>, services: &ServiceIndex) {
        self.remove(&route.key, services);
        let key = route.key.clone();
        self.by_name.insert(key.clone(), Arc::clone(&route));
        for service in parents_of(&route) {
            let attached = self.by_parent.entry(service.clone()).or_default();
            attached.insert(key.clone());
            self.compile(service, services);
        }
    }

    /// Removes a route.
    pub(super) fn remove(&mut self, key: &RouteKey, services: &ServiceIndex) {
        let Some(old) = self.by_name.remove(key) else {
            return;
        };
        for service in parents_of(&old) {
            if let Some(attached) = self.by_parent.get_mut(service) {
                attached.remove(key);
                if attached.is_empty() {
                    self.by_parent.remove(service);
                }
            }
            self.compile(service, services);
        }
    }

    /// Compiles the routes of a Service, which is new, different or removed.
    pub(super) fn compile(&mut self, key: &NamespacedName, services: &ServiceIndex) {
        let (Some(service), Some(attached)) = (services.get(key), self.by_parent.get(key)) else {
            self.compiled.remove(key);
            return;
        };
        let attached = attached.iter().filter_map(|key| self.by_name.get(key));
        let attached: Vec<_> = attached.map(Arc::clone).collect();
        let routes = ServiceRoutes::new(service, &attached);
        self.compiled.insert(key.clone(), Arc::new(routes));
    }
}

/// The Services that a route is attached to, each once.
fn parents_of(route: &Route) -> BTreeSet<&NamespacedName> {
    route.parents.iter().map(|parent| &parent.service).collect()
}
