//! The routes of a Service, compiled for each of its ports and each group of clients.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::hash::stable_hash;
use crate::host::specificity;
use crate::route::key::{RouteKey, RouteKind};
use crate::route::matching::{RequestHead, RequestMatch};
use crate::route::path::PathNormalization;
use crate::route::rule::{Backend, Route, Rule};
use crate::route::split::backend_at;
use crate::service::Service;

/// The routes of a Service, for each of its ports and for each group of clients.
///
/// Ports with the same routes share a table, and tables share the rules: whoever writes a large
/// Service and a large route gets as much as both have, not a rule for each pair of port and rule.
#[derive(Debug, Default)]
pub struct ServiceRoutes {
    /// Tables by port, from routes of the Service's own namespace: for everybody else.
    producer: BTreeMap<u16, Arc<RouteTable>>,
    /// Tables by port, from routes of clients' namespaces: for these clients instead
    /// (GEP-1294, "consumer routes").
    consumers: BTreeMap<Arc<str>, BTreeMap<u16, Arc<RouteTable>>>,
    /// The rules of all tables, each once.
    rules: Vec<Arc<CompiledRule>>,
}

/// The rules for one port of a Service and one group of clients.
///
/// ```
/// use std::sync::Arc;
/// use http::{HeaderMap, Method};
/// use weft_model::NamespacedName;
/// use weft_model::route::matching::{PathMatch, RequestHead};
/// use weft_model::route::table::ServiceRoutes;
/// use weft_model::route::{Backend, BackendTarget, Parent, RequestMatch, Route, RouteKey};
/// use weft_model::route::{RouteKind, Rule};
/// use weft_model::service::{Service, ServiceKind, ServicePort};
///
/// let web = NamespacedName::new("shop", "web");
/// let kind = ServiceKind::ClusterIp(vec!["10.96.0.1".parse()?]);
/// let service = Service {
///     ports: vec![ServicePort {
///         name: "".into(),
///         port: 80,
///         app_protocol: "http".into(),
///         node_port: None,
///     }],
///     ..Service::new(web.clone(), "web.shop.svc.cluster.local".into(), kind)
/// };
/// let rule = |prefix: &str, backend: &str| Rule {
///     matches: vec![RequestMatch {
///         path: PathMatch::Prefix(prefix.into()),
///         ..RequestMatch::default()
///     }],
///     backends: vec![Backend {
///         target: BackendTarget::Service {
///             service: NamespacedName::new("shop", backend),
///             port: 80,
///         },
///         weight: 1,
///         filters: Vec::new(),
///     }],
///     ..Rule::default()
/// };
/// let route = Route {
///     key: RouteKey { kind: RouteKind::Http, name: web.clone() },
///     created: 0,
///     parents: vec![Parent { service: web, port: None, section: None }],
///     hostnames: Vec::new(),
///     rules: vec![rule("/", "web-v1"), rule("/beta", "web-v2")],
/// };
///
/// let routes = ServiceRoutes::new(&service, &[Arc::new(route)]);
/// let table = routes.table("client-namespace", 80).ok_or("no routes")?;
/// let request = RequestHead {
///     method: &Method::GET,
///     path: "/beta/cart",
///     query: None,
///     headers: &HeaderMap::new(),
/// };
/// let (rule, matched) = table.match_request(&request).ok_or("no rule")?;
/// assert_eq!(matched.path, PathMatch::Prefix("/beta".into()));
/// let only_backend = rule.backend(|| unreachable!("nothing to draw")).ok_or("no backend")?;
/// assert!(matches!(
///     &only_backend.target,
///     BackendTarget::Service { service, .. } if *service.name == *"web-v2"
/// ));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RouteTable {
    kind: RouteKind,
    rules: Vec<Arc<CompiledRule>>,
    /// Matches of all rules, the one that counts first first: the index of its rule, and its own
    /// in there.
    matches: Vec<(usize, usize)>,
}

/// Servers may read a path in ways that are for different rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "which rule is for the request depends on how a server reads its path: write it without `//`, `.`, `..`, `\\`, `;`, `%2F`, `%5C` and `%00`, or set `requests.pathNormalization` of MeshConfig"
)]
pub struct AmbiguousPath;

/// Identity of a rule of a Service, for all its ports. It stays the same when routes are compiled
/// anew, so that whoever keeps something for a rule finds it again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleId(pub u64);

impl RuleId {
    /// The identity of a route's rule, by its index, for a Service.
    fn new(service: &Service, route: &RouteKey, rule: usize) -> Self {
        let name = format!("{} {route} {rule}", service.key);
        Self(stable_hash(name.as_bytes()))
    }
}

/// A rule in tables.
#[derive(Debug)]
pub struct CompiledRule {
    /// Identity.
    pub id: RuleId,
    /// Key of the route that the rule is of.
    pub route: RouteKey,
    /// The rule itself.
    pub rule: Rule,
    /// Server names to which a TLSRoute's rule is bound; all when empty.
    hostnames: Arc<[Arc<str>]>,
}

impl ServiceRoutes {
    /// Compiles the routes that are attached to a Service.
    pub fn new(service: &Service, attached: &[Arc<Route>]) -> Self {
        let mut routes = Self::default();
        let own = &service.key.namespace;
        let mut namespaces: Vec<_> = attached.iter().map(|r| &r.key.name.namespace).collect();
        namespaces.sort();
        namespaces.dedup();
        for namespace in namespaces {
            let in_namespace = attached.iter();
            let in_namespace = in_namespace.filter(|r| r.key.name.namespace == *namespace);
            let group = RouteGroup::new(service, in_namespace.map(AsRef::as_ref));
            let ports = group.tables();
            if !ports.is_empty() {
                routes.rules.extend(group.rules.into_iter().flatten());
            }
            if namespace == own {
                routes.producer = ports;
            } else if !ports.is_empty() {
                routes.consumers.insert(Arc::clone(namespace), ports);
            }
        }
        routes
    }

    /// The rules for what a client of that namespace sends to a port; `None` when there
    /// are none.
    pub fn table(&self, client_namespace: &str, port: u16) -> Option<&Arc<RouteTable>> {
        let consumer = self.consumers.get(client_namespace);
        let consumer = consumer.and_then(|ports| ports.get(&port));
        consumer.or_else(|| self.producer.get(&port))
    }

    /// The rules of all tables.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<CompiledRule>> {
        self.rules.iter()
    }
}

/// The routes of one group, with their rules.
struct RouteGroup<'a> {
    service: &'a Service,
    /// In the order in which they count.
    routes: Vec<&'a Route>,
    /// The rules of each.
    rules: Vec<Vec<Arc<CompiledRule>>>,
}

impl<'a> RouteGroup<'a> {
    fn new(service: &'a Service, routes: impl Iterator<Item = &'a Route>) -> Self {
        let mut routes: Vec<_> = routes.collect();
        routes.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        let rules = routes.iter().map(|route| {
            let hostnames: Arc<[Arc<str>]> = route.hostnames.clone().into();
            let rules = route.rules.iter().enumerate();
            let compiled = rules.map(|(index, rule)| {
                Arc::new(CompiledRule {
                    id: RuleId::new(service, &route.key, index),
                    route: route.key.clone(),
                    rule: rule.clone(),
                    hostnames: Arc::clone(&hostnames),
                })
            });
            compiled.collect()
        });
        let rules = rules.collect();
        Self {
            service,
            routes,
            rules,
        }
    }

    /// The tables of the ports that have any routes: those of the kind that counts.
    fn tables(&self) -> BTreeMap<u16, Arc<RouteTable>> {
        let mut tables = HashMap::<Vec<usize>, Arc<RouteTable>>::new();
        let ports = self.service.ports.iter().filter_map(|port| {
            let is_attached = |index: &usize| {
                let mut parents = self.routes[*index].parents.iter();
                parents.any(|parent| parent.attaches_to(self.service, port))
            };
            let mut attached: Vec<_> = (0..self.routes.len()).filter(is_attached).collect();
            let kind_of = |index: &usize| self.routes[*index].key.kind;
            let kind = attached.iter().map(kind_of).min()?;
            attached.retain(|index| kind_of(index) == kind);
            let new_table = |attached: &Vec<usize>| {
                let rules = attached.iter().flat_map(|index| &self.rules[*index]);
                Arc::new(RouteTable::new(kind, rules.map(Arc::clone).collect()))
            };
            let table = tables.entry(attached).or_insert_with_key(new_table);
            Some((port.port, Arc::clone(table)))
        });
        ports.collect()
    }
}

impl RouteTable {
    fn new(kind: RouteKind, rules: Vec<Arc<CompiledRule>>) -> Self {
        let mut matches = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            matches.extend((0..rule.rule.matches.len()).map(|matching| (index, matching)));
        }
        let matching = |(rule, matching): &(usize, usize)| &rules[*rule].rule.matches[*matching];
        // Stable: of equals, that of the older route and of the earlier rule stays first.
        matches.sort_by(|a, b| matching(a).compare_precedence(matching(b)));
        Self {
            kind,
            rules,
            matches,
        }
    }

    /// The kind of the routes.
    pub fn kind(&self) -> RouteKind {
        self.kind
    }

    /// The rule for a request, with the match because of which.
    pub fn match_request(
        &self,
        request: &RequestHead<'_>,
    ) -> Option<(&Arc<CompiledRule>, &RequestMatch)> {
        self.matches.iter().find_map(|(rule, matching)| {
            let rule = self.rules.get(*rule)?;
            let matching = rule.rule.matches.get(*matching)?;
            matching.matches(request).then_some((rule, matching))
        })
    }

    /// The rule for a request whose path is in the form that `normalization` sends on, with the
    /// match because of which.
    ///
    /// # Errors
    /// When it depends on how a server reads the path, and that is to be refused.
    pub fn match_normalized(
        &self,
        request: &RequestHead<'_>,
        normalization: PathNormalization,
    ) -> Result<Option<(&Arc<CompiledRule>, &RequestMatch)>, AmbiguousPath> {
        let of = |path: &str| self.match_request(&RequestHead { path, ..*request });
        let matched = |(_, matched): (_, &RequestMatch)| std::ptr::from_ref(matched);
        let mut readings = normalization.compared_paths(request.path).into_iter();
        let first = readings.next().and_then(|path| of(&path));
        match readings.all(|path| of(&path).map(matched) == first.map(matched)) {
            true => Ok(first),
            false => Err(AmbiguousPath),
        }
    }

    /// The rule for a connection that begins with TLS to that server name, or with none.
    /// The most specific name counts.
    pub fn match_server_name(&self, server_name: Option<&str>) -> Option<&Arc<CompiledRule>> {
        let fitting = self.rules.iter().filter_map(|rule| {
            if rule.hostnames.is_empty() {
                return Some((0, rule));
            }
            let server_name = server_name?;
            let names = rule.hostnames.iter();
            let best = names
                .filter_map(|name| specificity(name, server_name))
                .max()?;
            Some((best, rule))
        });
        // Of equals the first counts.
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, rule)| rule)
    }

    /// The rule for every connection, whatever it begins with.
    pub fn connection_rule(&self) -> Option<&Arc<CompiledRule>> {
        self.rules.first()
    }
}

impl CompiledRule {
    /// The backend for one request or connection; `None` when none has a weight. `draw`
    /// gives a number from 0 up to 1; it isn't called where there is nothing to choose.
    /// The shares of the backends are as even as the numbers are
    /// ([`LowDiscrepancySequence`](crate::route::split::LowDiscrepancySequence)).
    pub fn backend(&self, draw: impl FnOnce() -> f64) -> Option<&Backend> {
        match self.rule.backends.as_slice() {
            [only] if only.weight > 0 => Some(only),
            backends => backend_at(backends, draw()),
        }
    }
}

#[cfg(test)]
mod tests;
