//! The parts of a rule.

use std::sync::Arc;

use http::HeaderName;

use super::path_pattern::PathPattern;
use super::pattern::{PrincipalPattern, TextPattern};
use crate::address::AddressBlock;
use crate::request_authentication::ClaimPath;

/// One rule: it matches when all of its parts do. One without parts matches everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rule {
    /// Clients, of which one has to match; all when empty.
    pub from: Vec<SourceMatch>,
    /// Ports and requests, of which one has to match; all when empty.
    pub to: Vec<OperationMatch>,
    /// Headers, all of which have to match.
    pub when: Vec<HeaderMatch>,
    /// Claims of the request's token, all of which have to match.
    pub claims: Vec<ClaimMatch>,
    /// It has a part that this version doesn't know, which is taken against the client.
    pub has_unknown_part: bool,
}

/// Values of one attribute: it has to be one of some, and none of others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Values<T> {
    /// Values of which one has to match; every value does when empty.
    pub any_of: Vec<T>,
    /// Values of which none may match.
    pub none_of: Vec<T>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self {
            any_of: Vec::new(),
            none_of: Vec::new(),
        }
    }
}

impl<T> Values<T> {
    /// One of these.
    pub fn any_of(values: impl IntoIterator<Item = T>) -> Self {
        Self {
            any_of: values.into_iter().collect(),
            none_of: Vec::new(),
        }
    }

    /// None of these.
    pub fn none_of(values: impl IntoIterator<Item = T>) -> Self {
        Self {
            any_of: Vec::new(),
            none_of: values.into_iter().collect(),
        }
    }

    /// Whether every value matches.
    pub fn is_empty(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.any_of.len() + self.none_of.len()
    }
}

/// Clients: all attributes have to match.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceMatch {
    /// SPIFFE IDs.
    pub principals: Values<PrincipalPattern>,
    /// ServiceAccounts of the workload's own trust domain.
    pub service_accounts: Values<ServiceAccount>,
    /// Namespaces of the workload's own trust domain.
    pub namespaces: Values<TextPattern>,
    /// Addresses from which the connection comes.
    pub addresses: Values<AddressBlock>,
    /// `issuer/subject` of the request's token.
    pub request_principals: Values<TextPattern>,
    /// It has an attribute that this version doesn't know.
    pub has_unknown_attribute: bool,
}

/// A ServiceAccount; its text is `namespace/name`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Ports and requests: all attributes have to match.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OperationMatch {
    /// Ports of the workload.
    pub ports: Values<u16>,
    /// Methods, such as `GET`.
    pub methods: Values<TextPattern>,
    /// Paths, without the query.
    pub paths: Values<PathPattern>,
    /// Hosts, in lower case and without port.
    pub hosts: Values<TextPattern>,
    /// Methods of gRPC.
    pub grpc: Values<GrpcMethod>,
    /// It has an attribute that this version doesn't know.
    pub has_unknown_attribute: bool,
}

/// Methods of gRPC, by the path of their requests (`/package.Service/Method`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct GrpcMethod {
    /// Package and name of the service; any when `None`.
    pub service: Option<Arc<str>>,
    /// Name of the method; any when `None`.
    pub method: Option<Arc<str>>,
}

/// The values of one header of a request. [`TextPattern::Any`] is its presence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderMatch {
    /// Name of the header.
    pub name: HeaderName,
    /// Its values.
    pub values: Values<TextPattern>,
}

/// The values of one claim of a request's token. [`TextPattern::Any`] is its presence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimMatch {
    /// The claim.
    pub claim: ClaimPath,
    /// Its values. Of one that is a list, each.
    pub values: Values<TextPattern>,
}

impl Rule {
    /// Whether it looks at requests, so that connections alone don't decide it.
    pub fn has_http_parts(&self) -> bool {
        self.is_about_requests() || self.to.iter().any(OperationMatch::has_http_parts)
    }

    /// Whether it looks at requests on whatever port.
    pub fn is_about_requests(&self) -> bool {
        self.looks_at_tokens() || !self.when.is_empty()
    }

    /// Whether it looks at the tokens of requests.
    pub fn looks_at_tokens(&self) -> bool {
        let of_source = |source: &SourceMatch| !source.request_principals.is_empty();
        !self.claims.is_empty() || self.from.iter().any(of_source)
    }

    /// Number of its values.
    pub fn value_count(&self) -> usize {
        let from = self.from.iter().map(SourceMatch::value_count);
        let to = self.to.iter().map(OperationMatch::value_count);
        let when = self.when.iter().map(|header| 1 + header.values.len());
        let claims = self.claims.iter();
        let claims = claims.map(|claim| claim.claim.names().len() + claim.values.len());
        from.chain(to).chain(when).chain(claims).sum()
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        let is_of_client = self.from.is_empty() && self.claims.is_empty();
        is_of_client && self.to.is_empty() && self.when.is_empty()
    }
}

impl SourceMatch {
    /// Number of its values.
    fn value_count(&self) -> usize {
        let of_identity = self.principals.len() + self.service_accounts.len();
        let of_address = self.namespaces.len() + self.addresses.len();
        of_identity + of_address + self.request_principals.len()
    }
}

impl OperationMatch {
    /// Whether it looks at requests.
    pub fn has_http_parts(&self) -> bool {
        let Self {
            ports: _,
            methods,
            paths,
            hosts,
            grpc,
            has_unknown_attribute: _,
        } = self;
        !(methods.is_empty() && paths.is_empty() && hosts.is_empty() && grpc.is_empty())
    }

    /// Number of its values.
    fn value_count(&self) -> usize {
        let of_request = self.methods.len() + self.paths.len() + self.hosts.len();
        self.ports.len() + of_request + self.grpc.len()
    }
}
