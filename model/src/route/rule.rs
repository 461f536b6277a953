//! Routes and their rules.

use std::sync::Arc;

use crate::name::NamespacedName;
use crate::route::backend::BackendTarget;
use crate::route::filter::Filter;
use crate::route::key::RouteKey;
use crate::route::matching::RequestMatch;
use crate::route::retry::{Retry, Timeouts};
use crate::route::session::SessionPersistence;
use crate::service::{Service, ServicePort};

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Kind, namespace and name of the route.
    pub key: RouteKey,
    /// Creation time, in seconds since 1970. Of two rules that are for the same requests, that of the
    /// older route counts.
    pub created: i64,
    /// Services whose traffic it routes.
    pub parents: Vec<Parent>,
    /// Server names that clients ask for by TLS (RFC 6066 section 3), for a TLSRoute; all
    /// when empty. Those of an HTTPRoute are not looked at (GEP-1294).
    pub hostnames: Vec<Arc<str>>,
    /// Rules, the first one first.
    pub rules: Vec<Rule>,
}

/// Parent of a route: a Service that it is attached to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Parent {
    /// Namespace and name of the Service.
    pub service: NamespacedName,
    /// Number of one of its ports; all when `None`.
    pub port: Option<u16>,
    /// Name of one of its ports; any when `None`.
    pub section: Option<Arc<str>>,
}

/// A rule: which requests, or connections, it is for, and what happens to them. The default
/// is for none and has no backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Name of the rule; empty when it has none.
    pub name: Arc<str>,
    /// Matches, of which one has to fit a request. Connections fit any rule.
    pub matches: Vec<RequestMatch>,
    /// Filters for requests and responses, in this order.
    pub filters: Vec<Filter>,
    /// Backends, which share the requests by weight.
    pub backends: Vec<Backend>,
    /// Timeouts of a request.
    pub timeouts: Timeouts,
    /// Retries of a request; those of the Service's TrafficPolicy when `None`.
    pub retry: Option<Retry>,
    /// Session persistence; none when `None`.
    pub session: Option<SessionPersistence>,
}

/// Backend of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Target of its requests.
    pub target: BackendTarget,
    /// Its share of the requests, as a part of the sum of all weights.
    pub weight: u32,
    /// Filters for the requests that go there, after the rule's own.
    pub filters: Vec<Filter>,
}

impl Parent {
    /// Whether that port of that Service is what the route is attached to.
    pub fn attaches_to(&self, service: &Service, port: &ServicePort) -> bool {
        self.service == service.key
            && self.port.is_none_or(|number| number == port.port)
            && self.section.as_ref().is_none_or(|name| *name == port.name)
    }
}
