//! Routes and their rules on the wire.

use std::time::Duration;

use weft_model::route::{Backend, Parent, Route, RouteKey, RouteKind, Rule, Timeouts};

use crate::route::backend::backend_target;
use crate::route::error::InvalidRoute;
use crate::route::field::{micros, namespaced_name, non_empty, port_field};
use crate::v1;

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
        let name = namespaced_name("name", &message.namespace, &message.name)?;
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

fn parent(message: v1::RouteParent) -> Result<Parent, InvalidRoute> {
    let port = match message.port {
        0 => None,
        number => Some(port_field("parents.port", number)?),
    };
    Ok(Parent {
        service: namespaced_name("parents.name", &message.namespace, &message.name)?,
        port,
        section: non_empty(message.section),
    })
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
        retry: message.retry.map(TryInto::try_into).transpose()?,
        session: message.session.map(TryInto::try_into).transpose()?,
    })
}

fn backend(message: v1::RouteBackend) -> Result<Backend, InvalidRoute> {
    let filters = message.filters.into_iter().map(TryInto::try_into);
    Ok(Backend {
        target: backend_target(message.target)?,
        weight: message.weight,
        filters: filters.collect::<Result<_, _>>()?,
    })
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
            session: rule.session.as_ref().map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests;
