//! Kinds and names of routes.

use std::fmt;
use std::str::FromStr;

use crate::name::{InvalidNamespacedName, NamespacedName};

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

    /// Name of the kind in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }

    /// Whether routes of this kind are about requests, not about connections.
    pub fn routes_requests(self) -> bool {
        matches!(self, Self::Grpc | Self::Http)
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Key of a route. Its text is `kind/namespace/name`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteKey {
    /// Kind of the route.
    pub kind: RouteKind,
    /// Namespace and name of the route.
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
    /// It does not begin with one of [`RouteKind`].
    #[error("`{0}` does not begin with a kind of routes")]
    Kind(String),
    /// The kind is not followed by a namespace and a name.
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
