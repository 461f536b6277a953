//! Routes of the Gateway API that are attached to Services (GEP-1294): what a request
//! looks like that a rule is for, what is done to it, and where it goes.
//!
//! * [`matching`]: what a rule is for, and which of several rules comes first
//! * [`filter`]: what is done to requests and responses
//! * [`table`]: which routes hold for whom, compiled for one port of a Service

pub mod filter;
pub mod matching;
pub mod table;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::service::{InvalidNamespacedName, NamespacedName};
pub use filter::Filter;
pub use matching::RequestMatch;

/// Kinds of routes. Of several kinds on one port of a Service the first of these counts
/// and the others have no effect (GEP-1294).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouteKind {
    /// GRPCRoute.
    Grpc,
    /// HTTPRoute.
    Http,
    /// TLSRoute.
    Tls,
    /// TCPRoute.
    Tcp,
}

impl RouteKind {
    /// All kinds, the first that counts first.
    pub const ALL: [Self; 4] = [Self::Grpc, Self::Http, Self::Tls, Self::Tcp];

    /// Its name in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }

    /// Whether it is about requests, not about connections.
    pub fn routes_requests(self) -> bool {
        matches!(self, Self::Grpc | Self::Http)
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names a route: kind, namespace and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteKey {
    /// Its kind.
    pub kind: RouteKind,
    /// Namespace and name.
    pub name: NamespacedName,
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A text that is not `kind/namespace/name` of a route.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRouteKey {
    /// The kind isn't one of [`RouteKind`].
    #[error("`{0}` does not begin with a kind of routes")]
    Kind(String),
    /// What follows the kind.
    #[error(transparent)]
    Name(#[from] InvalidNamespacedName),
}

impl FromStr for RouteKey {
    type Err = InvalidRouteKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidRouteKey::Kind(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(invalid)?;
        let mut kinds = RouteKind::ALL.into_iter();
        let kind = kinds.find(|known| known.as_str() == kind);
        Ok(Self {
            kind: kind.ok_or_else(invalid)?,
            name: name.parse()?,
        })
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What names it.
    pub key: RouteKey,
    /// Seconds since 1970. Of two rules that are for the same requests, that of the
    /// older route counts.
    pub created: i64,
    /// The Services whose traffic it routes.
    pub parents: Vec<Parent>,
    /// Names that clients ask for by TLS (RFC 6066 section 3), for a TLSRoute; all when
    /// empty. Those of an HTTPRoute are not looked at (GEP-1294).
    pub hostnames: Vec<Arc<str>>,
    /// What it says, the first rule first.
    pub rules: Vec<Rule>,
}

/// A Service that a route is attached to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Parent {
    /// The Service.
    pub service: NamespacedName,
    /// One of its ports; all when `None`.
    pub port: Option<u16>,
    /// The name of one of its ports; any when `None`.
    pub section: Option<Arc<str>>,
}

/// What happens to the requests, or connections, that a rule is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name; empty when it has none.
    pub name: Arc<str>,
    /// What it is for; one of them has to match. Connections match any rule.
    pub matches: Vec<RequestMatch>,
    /// What is done to requests and responses, in this order.
    pub filters: Vec<Filter>,
    /// Where it goes, by weight.
    pub backends: Vec<Backend>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// When it is tried again.
    pub retry: Option<Retry>,
    /// How requests of one session reach the same endpoint.
    pub session: Option<SessionPersistence>,
}

/// One place that a rule sends to.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Where to.
    pub target: BackendTarget,
    /// Its share, as part of the sum of all.
    pub weight: u32,
    /// What is done to the requests that go there, after the rule's own filters.
    pub filters: Vec<Filter>,
}

/// Where a backend leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackendTarget {
    /// A port of a Service. Routes that are attached to it play no part.
    Service {
        /// The Service.
        service: NamespacedName,
        /// Its port.
        port: u16,
    },
    /// Nowhere: its share of the requests fails.
    Invalid {
        /// Why.
        reason: Arc<str>,
    },
}

/// How long a request may take; no limit where `None` (GEP-1742).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timeouts {
    /// From the request's beginning to the response's end, all attempts together.
    pub request: Option<Duration>,
    /// The same for one attempt.
    pub backend_request: Option<Duration>,
}

/// When a request is tried again (GEP-1731).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retry {
    /// Statuses that are worth another attempt.
    pub codes: Vec<StatusCode>,
    /// Attempts after the first.
    pub attempts: u32,
    /// Least wait between two attempts.
    pub backoff: Duration,
}

/// How requests of one session reach the same endpoint (GEP-1619).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionPersistence {
    /// Name of the cookie or of the header.
    pub name: Arc<str>,
    /// What carries the session.
    pub carrier: SessionCarrier,
}

/// What carries a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionCarrier {
    /// A cookie, for as long as this; until the client ends when `None`.
    Cookie {
        /// Its `Max-Age`.
        lifetime: Option<Duration>,
    },
    /// A header.
    Header,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_as_text() {
        for kind in RouteKind::ALL {
            let name = NamespacedName::new("shop", "web");
            let key = RouteKey { kind, name };
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["shop/web", "HTTPRoute/web", "UDPRoute/shop/web", ""] {
            assert!(text.parse::<RouteKey>().is_err(), "{text}");
        }
    }
}
