//! Whether a rule matches.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::attributes::{RequestAttributes, Source};
use super::outcome::Outcome;
use super::path_pattern::PathPattern;
use super::pattern::TextPattern;
use super::rule::{
    GrpcMethod, HeaderMatch, OperationMatch, Rule, ServiceAccount, SourceMatch, Values,
};
use crate::identity::{SpiffeId, TrustDomain};

/// A namespace of a trust domain: the workload's own.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct OwnNamespace {
    pub(super) trust_domain: TrustDomain,
    pub(super) name: Arc<str>,
}

/// What is known of a connection or request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) own: &'a OwnNamespace,
    pub(super) source: &'a Source<'a>,
    pub(super) port: u16,
    /// None while no request is known.
    pub(super) request: Option<RequestFacts<'a>>,
}

/// What is known of a request, by one reading of its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestFacts<'a> {
    pub(super) attributes: &'a RequestAttributes<'a>,
    /// In the form in which paths are compared.
    pub(super) path: &'a [u8],
}

impl OwnNamespace {
    pub(super) fn of(identity: &SpiffeId) -> Self {
        Self {
            trust_domain: identity.trust_domain().clone(),
            name: identity.namespace().into(),
        }
    }
}

impl Facts<'_> {
    /// Whether a rule matches. What can't be decided is assumed; that it is unknown is left to
    /// say that it depends on a request.
    pub(super) fn evaluate(&self, rule: &Rule, assumed: Outcome) -> Outcome {
        let unknown = match rule.has_unknown_part {
            true => assumed,
            false => Outcome::Yes,
        };
        let from = || one_of(&rule.from, |source| self.source(source, assumed));
        let to = || one_of(&rule.to, |operation| self.operation(operation, assumed));
        let headers = rule.when.iter();
        let when = || Outcome::all(headers.map(|header| self.header(header, assumed)));
        unknown.and(from).and(to).and(when)
    }

    fn source(&self, source: &SourceMatch, assumed: Outcome) -> Outcome {
        if source.has_unknown_attribute && assumed == Outcome::No {
            return Outcome::No;
        }
        let Source { identity, address } = *self.source;
        let principals = || {
            outcome(&source.principals, |pattern| match identity {
                Some(id) => pattern.matches(id).into(),
                None => without_identity(pattern.is_any()),
            })
        };
        let accounts = || {
            outcome(&source.service_accounts, |account| match identity {
                Some(id) => self.is_account(id, account).into(),
                None => without_identity(false),
            })
        };
        let namespaces = || {
            outcome(&source.namespaces, |pattern| match identity {
                Some(id) => self.is_of_namespace(id, pattern).into(),
                None => without_identity(*pattern == TextPattern::Any),
            })
        };
        let addresses = outcome(&source.addresses, |block| block.contains(address).into());
        let of_identity = addresses.and(principals).and(accounts).and(namespaces);
        of_identity.or_else(assumed)
    }

    fn is_account(&self, id: &SpiffeId, account: &ServiceAccount) -> bool {
        let is_own = *id.trust_domain() == self.own.trust_domain;
        is_own && *id.namespace() == *account.namespace && *id.service_account() == *account.name
    }

    fn is_of_namespace(&self, id: &SpiffeId, pattern: &TextPattern) -> bool {
        let is_own = *id.trust_domain() == self.own.trust_domain;
        is_own && pattern.matches(id.namespace().as_bytes())
    }

    fn operation(&self, operation: &OperationMatch, assumed: Outcome) -> Outcome {
        if operation.has_unknown_attribute && assumed == Outcome::No {
            return Outcome::No;
        }
        let port = outcome(&operation.ports, |port| (*port == self.port).into());
        if port == Outcome::No || !operation.has_http_parts() {
            return port;
        }
        match &self.request {
            None => Outcome::Unknown,
            Some(request) => request.operation(operation).or_else(assumed),
        }
    }

    fn header(&self, header: &HeaderMatch, assumed: Outcome) -> Outcome {
        match &self.request {
            None => Outcome::Unknown,
            Some(request) => request.header(header).or_else(assumed),
        }
    }
}

impl RequestFacts<'_> {
    fn operation(&self, operation: &OperationMatch) -> Outcome {
        let RequestAttributes { method, host, .. } = *self.attributes;
        let methods = outcome(&operation.methods, |pattern: &TextPattern| {
            let method = method.as_bytes();
            match pattern.matches(method) {
                true => Outcome::Yes,
                // A server may take one for the other.
                false if pattern.matches_ignoring_case(method) => Outcome::Unknown,
                false => Outcome::No,
            }
        });
        let path = |pattern: &PathPattern| pattern.matches(self.path).into();
        let paths = outcome(&operation.paths, path);
        let hosts = outcome(&operation.hosts, |pattern| match host {
            Some(host) => pattern.matches(host.as_bytes()).into(),
            // The server has one that it takes.
            None => Outcome::Unknown,
        });
        let grpc = outcome(&operation.grpc, |method| {
            is_grpc_method(method, self.path).into()
        });
        Outcome::all([methods, paths, hosts, grpc])
    }

    fn header(&self, header: &HeaderMatch) -> Outcome {
        let headers = self.attributes.headers;
        let values = headers.get_all(&header.name);
        let is_confusable = |name: &HeaderName| is_confusable(name, &header.name);
        // Of these a server may take none, too.
        let has_confusable = headers.keys().any(is_confusable);
        outcome(&header.values, |pattern| {
            let mut values = values.iter().map(|value| header_value(pattern, value));
            let first = values.next().unwrap_or(Outcome::No);
            // Of several that disagree, nobody knows which one the server takes.
            let agrees = values.all(|other| other == first)
                && (!has_confusable
                    || headers
                        .iter()
                        .filter(|(name, _)| is_confusable(name))
                        .all(|(_, value)| header_value(pattern, value) == first));
            match agrees {
                true => first,
                false => Outcome::Unknown,
            }
        })
    }
}

/// Whether some servers take two different names for one: what isn't letter or digit becomes `_`
/// in CGI and what follows it, such as WSGI and PHP, and in variables of nginx.
fn is_confusable(name: &HeaderName, with: &HeaderName) -> bool {
    let (name, with) = (name.as_str().as_bytes(), with.as_str().as_bytes());
    let is_taken_for = |(one, other): (&u8, &u8)| {
        one == other || !(one.is_ascii_alphanumeric() || other.is_ascii_alphanumeric())
    };
    name.len() == with.len() && name != with && name.iter().zip(with).all(is_taken_for)
}

/// Whether a header's value matches. Of a list, the server may take one.
fn header_value(pattern: &TextPattern, value: &HeaderValue) -> Outcome {
    let value = value.as_bytes();
    if pattern.matches(value) {
        return Outcome::Yes;
    }
    let mut parts = value.split(|byte| *byte == b',');
    match value.contains(&b',') && parts.any(|part| pattern.matches(part.trim_ascii())) {
        true => Outcome::Unknown,
        false => Outcome::No,
    }
}

fn is_grpc_method(wanted: &GrpcMethod, path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/');
    let parts = [(); 4].map(|()| segments.next());
    let [Some(b""), Some(service), Some(method), None] = parts else {
        return false;
    };
    let is = |wanted: &Option<Arc<str>>, found: &[u8]| {
        wanted
            .as_ref()
            .is_none_or(|wanted| wanted.as_bytes() == found)
    };
    is(&wanted.service, service) && is(&wanted.method, method)
}

/// Whether a part that asks for an identity matches where none is proven. That there is none is
/// known; which one it would be isn't.
fn without_identity(asks_for_any: bool) -> Outcome {
    match asks_for_any {
        true => Outcome::No,
        false => Outcome::Unknown,
    }
}

/// Whether one of several matches; all do where there are none.
fn one_of<T>(several: &[T], matches: impl Fn(&T) -> Outcome) -> Outcome {
    match several.is_empty() {
        true => Outcome::Yes,
        false => Outcome::any(several.iter().map(matches)),
    }
}

/// Whether an attribute has one of some values, and none of others.
fn outcome<T>(values: &Values<T>, matches: impl Fn(&T) -> Outcome) -> Outcome {
    let none_of = || Outcome::any(values.none_of.iter().map(&matches)).not();
    one_of(&values.any_of, &matches).and(none_of)
}
