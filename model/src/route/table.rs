//! Which routes hold for whom, compiled for one port of a Service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

use super::matching::{RequestHead, RequestMatch};
use super::{Backend, BackendTarget, Parent, Route, RouteKey, RouteKind, Rule};
use crate::service::{Service, ServicePort};

/// The routes of a Service, for each of its ports and for each group of clients.
#[derive(Debug, Default)]
pub struct ServiceRoutes {
    /// Of its own namespace, for everybody else.
    producer: BTreeMap<u16, Arc<RouteTable>>,
    /// Of clients' namespaces, for these clients instead (GEP-1294, "consumer routes").
    consumers: BTreeMap<Arc<str>, BTreeMap<u16, Arc<RouteTable>>>,
}

/// The rules for one port of a Service and one group of clients.
#[derive(Debug)]
pub struct RouteTable {
    kind: RouteKind,
    rules: Vec<Arc<CompiledRule>>,
    /// The matches of all rules, the one that counts first first; with its rule.
    matches: Vec<(RequestMatch, usize)>,
}

/// A rule in a table.
#[derive(Debug)]
pub struct CompiledRule {
    /// The route that it is of.
    pub route: RouteKey,
    /// What it says.
    pub rule: Rule,
    /// Names to which a TLSRoute's rule is bound; all when empty.
    hostnames: Vec<Arc<str>>,
    draws: LowDiscrepancySequence,
}

/// Numbers between 0 and 1 that are spread evenly over any stretch of them (multiples
/// of the golden ratio), so that shares are exact in the long run and never far off
/// before.
#[derive(Debug)]
pub struct LowDiscrepancySequence(AtomicU64);

impl LowDiscrepancySequence {
    /// Begins anywhere, so that many proxies don't all begin with the same backend.
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub fn draw(&self) -> f64 {
        // 2^64 divided by the golden ratio; addition wraps as numbers mod 1 do.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let drawn = self.0.fetch_add(STEP, Atomic::Relaxed).wrapping_add(STEP);
        // 53 bits are what the type holds exactly.
        (drawn >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl ServiceRoutes {
    /// What routes mean for a Service that they are attached to. `seed` begins the draw
    /// between backends.
    pub fn new(service: &Service, attached: &[Arc<Route>], mut seed: impl FnMut() -> u64) -> Self {
        let mut routes = Self::default();
        let own = &service.key.namespace;
        let mut namespaces: Vec<_> = attached.iter().map(|r| &r.key.name.namespace).collect();
        namespaces.sort();
        namespaces.dedup();
        for namespace in namespaces {
            let of_namespace = attached.iter();
            let of_namespace = of_namespace.filter(|r| r.key.name.namespace == *namespace);
            let of_namespace: Vec<_> = of_namespace.map(AsRef::as_ref).collect();
            let ports = service.ports.iter().filter_map(|port| {
                let table = RouteTable::new(service, port, &of_namespace, &mut seed)?;
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

    /// The rules for a client of that namespace, `None` when there are none.
    pub fn table(&self, client_namespace: &str, port: u16) -> Option<&Arc<RouteTable>> {
        let consumer = self.consumers.get(client_namespace);
        let consumer = consumer.and_then(|ports| ports.get(&port));
        consumer.or_else(|| self.producer.get(&port))
    }
}

impl Parent {
    /// Whether that port of the Service is meant.
    pub fn attaches_to(&self, service: &Service, port: &ServicePort) -> bool {
        self.service == service.key
            && self.port.is_none_or(|number| number == port.port)
            && self.section.as_ref().is_none_or(|name| *name == port.name)
    }
}

impl RouteTable {
    /// The rules of one group of routes for a port: those of the kind that counts.
    fn new(
        service: &Service,
        port: &ServicePort,
        routes: &[&Route],
        seed: &mut impl FnMut() -> u64,
    ) -> Option<Self> {
        let attached = |route: &&&Route| {
            let mut parents = route.parents.iter();
            parents.any(|parent| parent.attaches_to(service, port))
        };
        let mut attached: Vec<_> = routes.iter().filter(attached).collect();
        let kind = attached.iter().map(|route| route.key.kind).min()?;
        attached.retain(|route| route.key.kind == kind);
        attached.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        let (mut rules, mut matches) = (Vec::new(), Vec::new());
        for route in attached {
            for rule in &route.rules {
                let of_rule = rule
                    .matches
                    .iter()
                    .map(|matching| (matching.clone(), rules.len()));
                matches.extend(of_rule);
                rules.push(Arc::new(CompiledRule {
                    route: route.key.clone(),
                    rule: rule.clone(),
                    hostnames: route.hostnames.clone(),
                    draws: LowDiscrepancySequence::new(seed()),
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
        let (matching, rule) = matches.find(|(matching, _)| matching.matches(request))?;
        Some((self.rules.get(*rule)?, matching))
    }

    /// The rule for a connection that begins with TLS to that name, or with none. The
    /// most specific name counts.
    pub fn match_server_name(&self, server_name: Option<&str>) -> Option<&Arc<CompiledRule>> {
        let fitting = self.rules.iter().filter_map(|rule| {
            if rule.hostnames.is_empty() {
                return Some((0, rule));
            }
            let server_name = server_name?;
            let names = rule.hostnames.iter();
            let best = names
                .filter_map(|name| host_specificity(name, server_name))
                .max()?;
            Some((best, rule))
        });
        // Of equals the first counts.
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, rule)| rule)
    }

    /// The rule for any connection.
    pub fn connection_rule(&self) -> Option<&Arc<CompiledRule>> {
        self.rules.first()
    }
}

/// How closely a name of a route fits, when it does: its length, exact before wildcard.
pub(crate) fn host_specificity(name: &str, asked: &str) -> Option<usize> {
    let asked = asked.to_ascii_lowercase();
    match name.strip_prefix("*.") {
        None => (*name == asked).then_some(name.len() * 2 + 1),
        Some(domain) => {
            let label = asked.strip_suffix(domain)?.strip_suffix('.')?;
            (!label.is_empty()).then_some(domain.len() * 2)
        }
    }
}

impl CompiledRule {
    /// The next number for a draw of this rule.
    pub fn draw(&self) -> f64 {
        self.draws.draw()
    }

    /// The backend whose turn it is; `None` when the rule has none with a weight.
    pub fn backend(&self) -> Option<&Backend> {
        let backends = &self.rule.backends;
        match backends.as_slice() {
            [only] if only.weight > 0 => Some(only),
            _ => choose(backends, self.draw()),
        }
    }

    /// The Services that it sends to, with their ports.
    pub fn targets(&self) -> impl Iterator<Item = &BackendTarget> {
        self.rule.backends.iter().map(|backend| &backend.target)
    }
}

/// The backend at a place between 0 and 1, each as wide as its share.
fn choose(backends: &[Backend], draw: f64) -> Option<&Backend> {
    let sum: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let mut left = draw * sum as f64;
    let weighted = backends.iter().filter(|backend| backend.weight > 0);
    let mut last = None;
    for backend in weighted {
        last = Some(backend);
        left -= f64::from(backend.weight);
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests;
