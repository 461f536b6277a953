//! Routes by name, and what they mean for the services that they are attached to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::route::table::ServiceRoutes;
use crate::route::{Route, RouteKey};
use crate::service::{NamespacedName, Service};

type Services = HashMap<NamespacedName, Arc<Service>>;

/// All routes. Compiled when something changes, not when a request comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    by_name: HashMap<RouteKey, Arc<Route>>,
    /// Which routes name a service as parent.
    attached: HashMap<NamespacedName, BTreeSet<RouteKey>>,
    /// What these mean.
    compiled: HashMap<NamespacedName, Arc<ServiceRoutes>>,
}

impl Routes {
    /// The route of that name.
    pub(super) fn get(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.by_name.get(key)
    }

    /// What is attached to a service.
    pub(super) fn of(&self, service: &NamespacedName) -> Option<&Arc<ServiceRoutes>> {
        self.compiled.get(service)
    }

    /// A route is new or different.
    pub(super) fn put(&mut self, route: Arc<Route>, services: &Services) {
        self.remove(&route.key, services);
        let key = route.key.clone();
        self.by_name.insert(key.clone(), Arc::clone(&route));
        for service in services_of(&route) {
            let attached = self.attached.entry(service.clone()).or_default();
            attached.insert(key.clone());
            self.compile(service, services);
        }
    }

    /// A route is gone.
    pub(super) fn remove(&mut self, key: &RouteKey, services: &Services) {
        let Some(old) = self.by_name.remove(key) else {
            return;
        };
        for service in services_of(&old) {
            if let Some(attached) = self.attached.get_mut(service) {
                attached.remove(key);
                if attached.is_empty() {
                    self.attached.remove(service);
                }
            }
            self.compile(service, services);
        }
    }

    /// Finds out anew what is attached to a service, which is new, different or gone.
    pub(super) fn compile(&mut self, key: &NamespacedName, services: &Services) {
        let (Some(service), Some(attached)) = (services.get(key), self.attached.get(key)) else {
            self.compiled.remove(key);
            return;
        };
        let attached = attached.iter().filter_map(|key| self.by_name.get(key));
        let attached: Vec<_> = attached.map(Arc::clone).collect();
        let routes = ServiceRoutes::new(service, &attached, || fastrand::u64(..));
        self.compiled.insert(key.clone(), Arc::new(routes));
    }
}

/// The services that a route is attached to, each once.
fn services_of(route: &Route) -> BTreeSet<&NamespacedName> {
    route.parents.iter().map(|parent| &parent.service).collect()
}
