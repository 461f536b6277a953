//! References between objects: they say what has to be looked at again when one of them
//! is another.

use std::collections::{BTreeMap, HashMap};

use weft_model::NamespacedName;
use weft_model::route::RouteKey;

use crate::kinds::{Object, PolicyTarget, RequestAuthenticationObject};

/// References between the objects that count.
#[derive(Debug, Default)]
pub(super) struct References {
    /// The slices of a Service.
    pub(super) slices_of_service: Links,
    /// The Services whose slices name a pod.
    pub(super) services_of_pod: Links,
    /// The TrafficPolicies of a Service.
    pub(super) policies_of_service: Links,
    /// The AuthorizationPolicies that select the pods of a Service.
    pub(super) authorization_policies_of_service: Links,
    /// The routes that have a Service as parent or send to it.
    pub(super) routes_of_service: Links<RouteKey>,
    /// Routes of other namespaces that have a Service of a namespace as parent or send to it.
    routes_into_namespace: Links<RouteKey>,
}

/// The ways in which references change.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add,
    Remove,
}

impl References {
    /// An object counts from now on.
    pub(super) fn add(&mut self, object: &Object) {
        self.update(object, Step::Add);
    }

    /// An object doesn't count any more.
    pub(super) fn remove(&mut self, object: &Object) {
        self.update(object, Step::Remove);
    }

    /// Routes of other namespaces that have a Service of that one as parent or send to it.
    pub(super) fn routes_into(&self, namespace: &str) -> impl Iterator<Item = &RouteKey> {
        let namespace = NamespacedName::new("", namespace);
        self.routes_into_namespace.to(&namespace)
    }

    fn update(&mut self, object: &Object, step: Step) {
        match object {
            Object::EndpointSlice(slice) => {
                let links = &mut self.slices_of_service;
                links.update(&slice.service, &slice.key, step);
                for pod in slice.pods() {
                    self.services_of_pod.update(&pod, &slice.service, step);
                }
            }
            Object::TrafficPolicy(policy) => {
                if let Some(target) = &policy.target {
                    self.policies_of_service.update(target, &policy.key, step);
                }
            }
            Object::Route(route) => {
                for service in route.services() {
                    self.routes_of_service.update(service, &route.key, step);
                    if service.namespace != route.key.name.namespace {
                        let namespace = NamespacedName::new("", &service.namespace);
                        let links = &mut self.routes_into_namespace;
                        links.update(&namespace, &route.key, step);
                    }
                }
            }
            Object::AuthorizationPolicy(policy)
            | Object::RequestAuthentication(RequestAuthenticationObject { policy, .. }) => {
                if let PolicyTarget::Services(services) = &policy.target {
                    for service in services {
                        let links = &mut self.authorization_policies_of_service;
                        links.update(service, &policy.key, step);
                    }
                }
            }
            // Found by their labels, or by where they are.
            _ => {}
        }
    }
}

/// The referrers of a name. Counted, because two slices of one Service may name one pod.
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

impl<R: Clone + Ord> Links<R> {
    /// Those that refer to a name.
    pub(super) fn to(&self, name: &NamespacedName) -> impl Iterator<Item = &R> + use<'_, R> {
        self.by_name.get(name).into_iter().flat_map(BTreeMap::keys)
    }

    /// Somebody refers to a name.
    pub(super) fn any_to(&self, name: &NamespacedName) -> bool {
        self.by_name.contains_key(name)
    }

    fn update(&mut self, name: &NamespacedName, referrer: &R, step: Step) {
        match step {
            Step::Add => self.add(name, referrer),
            Step::Remove => self.remove(name, referrer),
        }
    }

    /// Somebody refers to a name from now on.
    pub(super) fn add(&mut self, name: &NamespacedName, referrer: &R) {
        let referrers = self.by_name.entry(name.clone()).or_default();
        *referrers.entry(referrer.clone()).or_default() += 1;
    }

    /// Somebody doesn't refer to a name any more.
    pub(super) fn remove(&mut self, name: &NamespacedName, referrer: &R) {
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
