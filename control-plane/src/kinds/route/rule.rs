//! Rules, and where they send to.

use std::time::Duration;

use http::StatusCode;
use weft_model::NamespacedName;
use weft_model::route::{
    Backend, Filter, RequestMatch, Retry, Rule, SessionCarrier, SessionPersistence, Timeouts,
};

use super::reader::{Reader, header_name, number, unknown};
use super::schema;
use crate::kinds::duration;
use crate::kinds::field_error::FieldError;

/// The largest weight that the Gateway API has.
const LARGEST_WEIGHT: u32 = 1_000_000;
/// Defaults of a retry.
const DEFAULT_ATTEMPTS: u32 = 1;
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

impl Reader<'_> {
    /// A rule of an HTTPRoute.
    pub(super) fn http_rule(&mut self, index: usize, rule: schema::HttpRule) -> Rule {
        let field = &format!("spec.rules[{index}]");
        let matches = self.http_matches(field, rule.matches);
        let filters = self.filters(field, rule.filters, &matches);
        let backends = self.backends(field, rule.backend_refs, &matches);
        let redirects = filters.iter().any(|f| matches!(f, Filter::Redirect(_)));
        if redirects && !backends.is_empty() {
            let message = "a rule that redirects sends nothing on";
            self.complain(format!("{field}.backendRefs"), message);
        }
        let timeouts = rule
            .timeouts
            .map(|timeouts| self::timeouts(&format!("{field}.timeouts"), &timeouts));
        let retry = rule
            .retry
            .map(|retry| self::retry(&format!("{field}.retry"), retry));
        Rule {
            name: rule.name.unwrap_or_default().into(),
            matches,
            filters,
            backends,
            timeouts: timeouts
                .and_then(|timeouts| self.take(timeouts))
                .unwrap_or_default(),
            retry: retry.and_then(|retry| self.take(retry)),
            session: self.session(index, rule.session_persistence),
        }
    }

    /// A rule of a GRPCRoute.
    pub(super) fn grpc_rule(&mut self, index: usize, rule: schema::GrpcRule) -> Rule {
        let field = &format!("spec.rules[{index}]");
        let matches = self.grpc_matches(field, rule.matches);
        let filters = self.filters(field, rule.filters, &matches);
        let backends = self.backends(field, rule.backend_refs, &matches);
        Rule {
            name: rule.name.unwrap_or_default().into(),
            matches,
            filters,
            backends,
            timeouts: Timeouts::default(),
            retry: None,
            session: self.session(index, rule.session_persistence),
        }
    }

    /// A rule of a TLSRoute or of a TCPRoute.
    pub(super) fn connection_rule(&mut self, index: usize, rule: schema::ConnectionRule) -> Rule {
        let field = &format!("spec.rules[{index}]");
        let backends = rule.backend_refs.unwrap_or_default();
        for (index, backend) in backends.iter().enumerate() {
            if backend.filters.is_some() {
                let field = format!("{field}.backendRefs[{index}].filters");
                self.complain(field, "connections have no filters");
            }
        }
        Rule {
            name: rule.name.unwrap_or_default().into(),
            matches: Vec::new(),
            filters: Vec::new(),
            backends: self.backends(field, Some(backends), &[]),
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
        }
    }

    fn backends(
        &mut self,
        field: &str,
        backends: Option<Vec<schema::Backend>>,
        matches: &[RequestMatch],
    ) -> Vec<Backend> {
        let numbered = backends.into_iter().flatten().enumerate();
        let read = numbered.map(|(index, backend)| {
            let field = format!("{field}.backendRefs[{index}]");
            let weight = backend.weight.unwrap_or(1);
            let weight = number(format!("{field}.weight"), weight, 0, LARGEST_WEIGHT);
            let reference = schema::Reference {
                group: backend.group,
                kind: backend.kind,
                namespace: backend.namespace,
                name: backend.name,
                port: backend.port,
            };
            Backend {
                target: self.target(&field, reference),
                weight: self.take(weight).unwrap_or_default(),
                filters: self.filters(&field, backend.filters, matches),
            }
        });
        read.collect()
    }

    fn session(
        &mut self,
        index: usize,
        session: Option<schema::SessionPersistence>,
    ) -> Option<SessionPersistence> {
        let field = format!("spec.rules[{index}].sessionPersistence");
        // Of its own, or two rules would take each other's sessions for theirs.
        let NamespacedName { namespace, name } = &self.route.name;
        let default = format!("weft-session-{namespace}-{name}-{index}");
        let session = self::session(&field, session?, default);
        self.take(session)
    }
}

/// A limit of no time is no limit (GEP-1742), whatever a policy says.
fn timeouts(field: &str, timeouts: &schema::Timeouts) -> Result<Timeouts, FieldError> {
    let limit = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            let read = duration::parse(text);
            let read = read.map_err(|error| FieldError::new(format!("{field}.{name}"), error))?;
            Ok(Some(read))
        }
    };
    let request = limit("request", &timeouts.request)?;
    let backend_request = limit("backendRequest", &timeouts.backend_request)?;
    let whole = request.filter(|limit| !limit.is_zero());
    if whole.is_some_and(|whole| backend_request.is_some_and(|part| part > whole)) {
        let message = "one attempt can't take longer than the whole request";
        return Err(FieldError::new(format!("{field}.backendRequest"), message));
    }
    Ok(Timeouts {
        request,
        backend_request,
    })
}

fn retry(field: &str, retry: schema::Retry) -> Result<Retry, FieldError> {
    let codes = retry.codes.into_iter().flatten().enumerate();
    let codes = codes.map(|(index, code)| {
        let field = format!("{field}.codes[{index}]");
        let code = u16::try_from(number(field.clone(), code, 400, 599)?).unwrap_or_default();
        StatusCode::from_u16(code).map_err(|error| FieldError::new(field, error))
    });
    let attempts = match retry.attempts {
        None => DEFAULT_ATTEMPTS,
        Some(attempts) => number(format!("{field}.attempts"), attempts, 1, u32::MAX)?,
    };
    let backoff = match retry.backoff {
        None => DEFAULT_BACKOFF,
        Some(text) => duration::parse(&text)
            .map_err(|error| FieldError::new(format!("{field}.backoff"), error))?,
    };
    Ok(Retry {
        codes: codes.collect::<Result<_, _>>()?,
        attempts,
        backoff,
    })
}

fn session(
    field: &str,
    session: schema::SessionPersistence,
    default: String,
) -> Result<SessionPersistence, FieldError> {
    let of = |name: &str| format!("{field}.{name}");
    let timeout = session.absolute_timeout.as_deref().map(duration::parse);
    let timeout = timeout
        .transpose()
        .map_err(|error| FieldError::new(of("absoluteTimeout"), error))?;
    let config = session.cookie_config.as_ref();
    let lifetime = config.and_then(|config| config.lifetime_type.as_deref());
    let carrier = match session.kind.as_deref().unwrap_or("Cookie") {
        "Header" if config.is_some() => {
            let message = "type Header has no cookie";
            return Err(FieldError::new(of("cookieConfig"), message));
        }
        "Header" => SessionCarrier::Header,
        "Cookie" => match lifetime.unwrap_or("Session") {
            "Session" => SessionCarrier::Cookie { lifetime: None },
            "Permanent" => SessionCarrier::Cookie {
                lifetime: Some(timeout.ok_or_else(|| {
                    let why = "it is how long a permanent cookie lives";
                    FieldError::missing(&of("absoluteTimeout"), why)
                })?),
            },
            other => {
                let field = of("cookieConfig.lifetimeType");
                return unknown(field, other, &["Session", "Permanent"]);
            }
        },
        other => return unknown(of("type"), other, &["Cookie", "Header"]),
    };
    let is_permanent = matches!(carrier, SessionCarrier::Cookie { lifetime: Some(_) });
    match timeout {
        Some(_) if !is_permanent => {
            let message = "only a cookie with lifetimeType Permanent can have one";
            return Err(FieldError::new(of("absoluteTimeout"), message));
        }
        Some(timeout) if timeout < Duration::from_secs(1) => {
            let message = "a cookie lives for one second or more";
            return Err(FieldError::new(of("absoluteTimeout"), message));
        }
        _ => {}
    }
    let name = session.session_name.filter(|name| !name.is_empty());
    let name = name.unwrap_or(default);
    // A cookie's name has the same characters (RFC 6265 section 4.1.1).
    header_name(&of("sessionName"), &name)?;
    Ok(SessionPersistence {
        name: name.into(),
        carrier,
    })
}
