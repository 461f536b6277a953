//! Routes on the wire. What a proxy couldn't follow is refused here: a pattern that
//! doesn't compile, a header that can't be sent.

pub(crate) mod filter;
mod matching;

use std::time::Duration;

use http::StatusCode;
use weft_model::NamespacedName;
use weft_model::route::{
    Backend, BackendTarget, Parent, Retry, Route, RouteKey, RouteKind, Rule, SessionCarrier,
    SessionPersistence, Timeouts,
};

use crate::address::port;
use crate::v1;

/// Why a message is not a route.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRoute {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// A field has a value that it can't have.
    #[error("field {field}: {message}")]
    Field {
        /// Its path in the message.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl InvalidRoute {
    pub(crate) fn new(field: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self::Field { field, message }
    }
}

impl TryFrom<v1::Route> for Route {
    type Error = InvalidRoute;

    fn try_from(message: v1::Route) -> Result<Self, Self::Error> {
        let kind = match message.kind() {
            v1::RouteKind::Grpc => RouteKind::Grpc,
            v1::RouteKind::Http => RouteKind::Http,
            v1::RouteKind::Tls => RouteKind::Tls,
            v1::RouteKind::Tcp => RouteKind::Tcp,
            v1::RouteKind::Unspecified => {
                let what = format!("this version doesn't know kind {}", message.kind);
                return Err(InvalidRoute::new("kind", what));
            }
        };
        let name = key("name", &message.namespace, &message.name)?;
        let parents = message.parents.into_iter().map(parent);
        let rules = message.rules.into_iter().map(rule);
        Ok(Self {
            key: RouteKey { kind, name },
            created: message.created,
            parents: parents.collect::<Result<_, _>>()?,
            hostnames: message.hostnames.into_iter().map(Into::into).collect(),
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

pub(crate) fn key(
    field: &'static str,
    namespace: &str,
    name: &str,
) -> Result<NamespacedName, InvalidRoute> {
    match namespace.is_empty() || name.is_empty() {
        true => Err(InvalidRoute::Missing(field)),
        false => Ok(NamespacedName::new(namespace, name)),
    }
}

fn parent(message: v1::RouteParent) -> Result<Parent, InvalidRoute> {
    let port = match message.port {
        0 => None,
        number => Some(port_of("parents.port", number)?),
    };
    Ok(Parent {
        service: key("parents.name", &message.namespace, &message.name)?,
        port,
        section: some(message.section),
    })
}

pub(crate) fn port_of(field: &'static str, number: u32) -> Result<u16, InvalidRoute> {
    port(number).ok_or_else(|| InvalidRoute::new(field, format!("{number} is not a port")))
}

/// `None` for an empty text.
fn some<T: From<String>>(text: String) -> Option<T> {
    (!text.is_empty()).then(|| text.into())
}

fn rule(message: v1::RouteRule) -> Result<Rule, InvalidRoute> {
    let matches = message.matches.into_iter().map(TryInto::try_into);
    let filters = message.filters.into_iter().map(TryInto::try_into);
    let backends = message.backends.into_iter().map(backend);
    Ok(Rule {
        name: message.name.into(),
        matches: matches.collect::<Result<_, _>>()?,
        filters: filters.collect::<Result<_, _>>()?,
        backends: backends.collect::<Result<_, _>>()?,
        timeouts: Timeouts {
            request: message.request_timeout_us.map(Duration::from_micros),
            backend_request: message
                .backend_request_timeout_us
                .map(Duration::from_micros),
        },
        retry: message.retry.map(retry).transpose()?,
        session: message.session.map(session).transpose()?,
    })
}

fn backend(message: v1::RouteBackend) -> Result<Backend, InvalidRoute> {
    let filters = message.filters.into_iter().map(TryInto::try_into);
    Ok(Backend {
        target: target(message.target)?,
        weight: message.weight,
        filters: filters.collect::<Result<_, _>>()?,
    })
}

fn target(message: Option<v1::BackendTarget>) -> Result<BackendTarget, InvalidRoute> {
    const FIELD: &str = "target";
    match message.and_then(|message| message.target) {
        None => Err(InvalidRoute::Missing(FIELD)),
        Some(v1::backend_target::Target::Invalid(reason)) => Ok(BackendTarget::Invalid {
            reason: reason.into(),
        }),
        Some(v1::backend_target::Target::Service(message)) => Ok(BackendTarget::Service {
            service: key(FIELD, &message.namespace, &message.name)?,
            port: port_of(FIELD, message.port)?,
        }),
    }
}

pub(crate) fn retry(message: v1::RouteRetry) -> Result<Retry, InvalidRoute> {
    let codes = message.codes.into_iter();
    let codes = codes.map(|code| status("retry.codes", code));
    Ok(Retry {
        codes: codes.collect::<Result<_, _>>()?,
        attempts: message.attempts,
        backoff: Duration::from_micros(message.backoff_us),
    })
}

pub(crate) fn status(field: &'static str, code: u32) -> Result<StatusCode, InvalidRoute> {
    let status = u16::try_from(code).ok();
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or_else(|| InvalidRoute::new(field, format!("{code} is not a status")))
}

fn session(message: v1::SessionPersistence) -> Result<SessionPersistence, InvalidRoute> {
    let carrier = match message.carrier {
        None => return Err(InvalidRoute::Missing("session.carrier")),
        Some(v1::session_persistence::Carrier::Header(v1::SessionHeader {})) => {
            // What can't be a header's name is refused now, not for each request.
            filter::header_name("session.name", &message.name)?;
            SessionCarrier::Header
        }
        Some(v1::session_persistence::Carrier::Cookie(cookie)) => SessionCarrier::Cookie {
            lifetime: cookie.lifetime_seconds.map(Duration::from_secs),
        },
    };
    match message.name.is_empty() {
        true => Err(InvalidRoute::Missing("session.name")),
        false => Ok(SessionPersistence {
            name: message.name.into(),
            carrier,
        }),
    }
}

impl From<&Route> for v1::Route {
    fn from(route: &Route) -> Self {
        let kind = match route.key.kind {
            RouteKind::Grpc => v1::RouteKind::Grpc,
            RouteKind::Http => v1::RouteKind::Http,
            RouteKind::Tls => v1::RouteKind::Tls,
            RouteKind::Tcp => v1::RouteKind::Tcp,
        };
        let parents = route.parents.iter().map(|parent| v1::RouteParent {
            namespace: parent.service.namespace.to_string(),
            name: parent.service.name.to_string(),
            port: parent.port.map_or(0, u32::from),
            section: parent.section.as_deref().unwrap_or_default().to_owned(),
        });
        Self {
            kind: kind.into(),
            namespace: route.key.name.namespace.to_string(),
            name: route.key.name.name.to_string(),
            created: route.created,
            parents: parents.collect(),
            hostnames: route.hostnames.iter().map(ToString::to_string).collect(),
            rules: route.rules.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Rule> for v1::RouteRule {
    fn from(rule: &Rule) -> Self {
        let session = rule.session.as_ref().map(|session| v1::SessionPersistence {
            name: session.name.to_string(),
            carrier: Some(match &session.carrier {
                SessionCarrier::Header => {
                    v1::session_persistence::Carrier::Header(v1::SessionHeader {})
                }
                SessionCarrier::Cookie { lifetime } => {
                    let lifetime_seconds = lifetime.map(|lifetime| lifetime.as_secs());
                    let cookie = v1::SessionCookie { lifetime_seconds };
                    v1::session_persistence::Carrier::Cookie(cookie)
                }
            }),
        });
        let backends = rule.backends.iter().map(|backend| v1::RouteBackend {
            target: Some((&backend.target).into()),
            weight: backend.weight,
            filters: backend.filters.iter().map(Into::into).collect(),
        });
        Self {
            name: rule.name.to_string(),
            matches: rule.matches.iter().map(Into::into).collect(),
            filters: rule.filters.iter().map(Into::into).collect(),
            backends: backends.collect(),
            request_timeout_us: rule.timeouts.request.map(micros),
            backend_request_timeout_us: rule.timeouts.backend_request.map(micros),
            retry: rule.retry.as_ref().map(Into::into),
            session,
        }
    }
}

impl From<&Retry> for v1::RouteRetry {
    fn from(retry: &Retry) -> Self {
        let codes = retry.codes.iter().map(|code| code.as_u16().into());
        Self {
            codes: codes.collect(),
            attempts: retry.attempts,
            backoff_us: micros(retry.backoff),
        }
    }
}

impl From<&BackendTarget> for v1::BackendTarget {
    fn from(target: &BackendTarget) -> Self {
        let target = match target {
            BackendTarget::Invalid { reason } => {
                v1::backend_target::Target::Invalid(reason.to_string())
            }
            BackendTarget::Service { service, port } => {
                v1::backend_target::Target::Service(v1::BackendService {
                    namespace: service.namespace.to_string(),
                    name: service.name.to_string(),
                    port: (*port).into(),
                })
            }
        };
        Self {
            target: Some(target),
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
