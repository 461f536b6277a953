//! The routes of a Service, compiled for each of its ports and each group of clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hash::stable_hash;
use crate::host::specificity;
use crate::route::key::{RouteKey, RouteKind};
use crate::route::matching::{RequestHead, RequestMatch};
use crate::route::rule::{Backend, Route, Rule};
use crate::route::split::backend_at;
use crate::service::{Service, ServicePort};

/// The routes of a Service, for each of its ports and for each group of clients.
#[derive(Debug, Default)]
pub struct ServiceRoutes {
    /// Tables by port, from routes of the Service's own namespace: for everybody else.
    producer: BTreeMap<u16, Arc<RouteTable>>,
    /// Tables by port, from routes of clients' namespaces: for these clients instead
    /// (GEP-1294, "consumer routes").
    consumers: BTreeMap<Arc<str>, BTreeMap<u16, Arc<RouteTable>>>,
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
/// let service = Service {
///     key: web.clone(),
///     hostname: "web.shop.svc.cluster.local".into(),
///     kind: ServiceKind::ClusterIp(vec!["10.96.0.1".parse()?]),
///     ports: vec![ServicePort { name: "".into(), port: 80, app_protocol: "http".into() }],
///     is_node_local: false,
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
    /// Matches of all rules, the one that counts first first; with the index of its rule.
    matches: Vec<(RequestMatch, usize)>,
}

/// Identity of a rule in a table. It stays the same when routes are compiled anew, so that
/// whoever keeps something for a rule finds it again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleId(pub u64);

impl RuleId {
    /// The identity of a route's rule, by its index, for a port of a Service.
    fn new(service: &Service, port: &ServicePort, route: &RouteKey, rule: usize) -> Self {
        let name = format!("{}:{} {route} {rule}", service.key, port.port);
        Self(stable_hash(name.as_bytes()))
    }
}

/// A rule in a table.
#[derive(Debug)]
pub struct CompiledRule {
    /// Identity.
    pub id: RuleId,
    /// Key of the route that the rule is of.
    pub route: RouteKey,
    /// The rule itself.
    pub rule: Rule,
    /// Server names to which a TLSRoute's rule is bound; all when empty.
    hostnames: Vec<Arc<str>>,
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
            let in_namespace: Vec<_> = in_namespace.map(AsRef::as_ref).collect();
            let ports = service.ports.iter().filter_map(|port| {
                let table = RouteTable::new(service, port, &in_namespace)?;
                Some((port.port, Arc::new(table)))
            });
            let ports: BTreeMap<_, _> = ports.collect();
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
        let groups = self.consumers.values().chain([&self.producer]);
        groups
            .flat_map(BTreeMap::values)
            .flat_map(|table| &table.rules)
    }
}

impl RouteTable {
    /// The rules of one group of routes for a port: those of the kind that counts.
    fn new(service: &Service, port: &ServicePort, routes: &[&Route]) -> Option<Self> {
        let is_attached = |route: &&&Route| {
            let mut parents = route.parents.iter();
            parents.any(|parent| parent.attaches_to(service, port))
        };
        let mut attached: Vec<_> = routes.iter().filter(is_attached).collect();
        let kind = attached.iter().map(|route| route.key.kind).min()?;
        attached.retain(|route| route.key.kind == kind);
        attached.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        let (mut rules, mut matches) = (Vec::new(), Vec::new());
        for route in attached {
            for (index, rule) in route.rules.iter().enumerate() {
                let matches_of_rule = rule.matches.iter();
                matches.extend(matches_of_rule.map(|matching| (matching.clone(), rules.len())));
                rules.push(Arc::new(CompiledRule {
                    id: RuleId::new(service, port, &route.key, index),
                    route: route.key.clone(),
                    rule: rule.clone(),
                    hostnames: route.hostnames.clone(),
                }));
            }
        }
        // Stable: of equals, that of the older route and of the earlier rule stays first.
        matches.sort_by(|(a, _), (b, _)| a.compare_precedence(b));
        Some(Self {
            kind,
            rules,
            matches,
        })
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
        let mut matches = self.matches.iter();
        let (matched, rule) = matches.find(|(matching, _)| matching.matches(request))?;
        Some((self.rules.get(*rule)?, matched))
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
