//! What a rule does to requests and responses.

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderName, StatusCode};
use weft_model::route::filter::{HeaderModifier, Mirror, PathModifier, Redirect, Rewrite};
use weft_model::route::matching::PathMatch;
use weft_model::route::{Filter, RequestMatch, RouteKind};

use super::cors::cors;
use super::reader::{Reader, header_name, header_value, host_name, number, port, unknown};
use super::schema;
use crate::kinds::field_error::FieldError;

const REQUEST_HEADERS: &str = "RequestHeaderModifier";
const RESPONSE_HEADERS: &str = "ResponseHeaderModifier";
const MIRROR: &str = "RequestMirror";
const REDIRECT: &str = "RequestRedirect";
const REWRITE: &str = "URLRewrite";
const CORS: &str = "CORS";
/// The types that each kind of routes has.
const OF_HTTP: [&str; 6] = [
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    MIRROR,
    REDIRECT,
    REWRITE,
    CORS,
];
const OF_GRPC: [&str; 3] = [REQUEST_HEADERS, RESPONSE_HEADERS, MIRROR];

const FULL_PATH: &str = "ReplaceFullPath";
const PREFIX_MATCH: &str = "ReplacePrefixMatch";

/// Headers that say where a message ends and what becomes of its connection (RFC 9110
/// section 7.6.1, RFC 9112 section 6). Whoever could change them could smuggle requests.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

impl Reader<'_> {
    /// `filters` of a rule or of a backend. `matches` are the rule's.
    pub(super) fn filters(
        &mut self,
        field: &str,
        filters: Option<Vec<schema::Filter>>,
        matches: &[RequestMatch],
    ) -> Vec<Filter> {
        let mut read: Vec<Filter> = Vec::new();
        for (index, filter) in filters.into_iter().flatten().enumerate() {
            let field = format!("{field}.filters[{index}]");
            let filter = self.filter(&field, filter, matches);
            let Some(filter) = self.take(filter) else {
                continue;
            };
            let is_mirror = matches!(filter, Filter::Mirror(_));
            let kind = std::mem::discriminant(&filter);
            let mut before = read.iter().map(std::mem::discriminant);
            if !is_mirror && before.any(|other| other == kind) {
                self.complain(&field, "a second filter of this type");
            }
            read.push(filter);
        }
        let redirects = read.iter().any(|f| matches!(f, Filter::Redirect(_)));
        if redirects && read.iter().any(|f| matches!(f, Filter::Rewrite(_))) {
            let message = format!("{REDIRECT} and {REWRITE} exclude each other");
            self.complain(format!("{field}.filters"), message);
        }
        read
    }

    fn filter(
        &mut self,
        field: &str,
        mut filter: schema::Filter,
        matches: &[RequestMatch],
    ) -> Result<Filter, FieldError> {
        let of_kind: &[&str] = match self.route.kind {
            RouteKind::Grpc => &OF_GRPC,
            RouteKind::Http | RouteKind::Tls | RouteKind::Tcp => &OF_HTTP,
        };
        let kind = filter.kind.clone();
        if !of_kind.contains(&kind.as_str()) {
            return unknown(format!("{field}.type"), kind, of_kind);
        }
        let missing = |name: &str| {
            let why = format!("a filter of type {kind} has it");
            FieldError::missing(&format!("{field}.{name}"), &why)
        };
        let read = match kind.as_str() {
            REQUEST_HEADERS => {
                let name = "requestHeaderModifier";
                let modifier = filter.request_header_modifier.take();
                let modifier = modifier.ok_or_else(|| missing(name))?;
                Filter::RequestHeaders(header_modifier(&format!("{field}.{name}"), modifier)?)
            }
            RESPONSE_HEADERS => {
                let name = "responseHeaderModifier";
                let modifier = filter.response_header_modifier.take();
                let modifier = modifier.ok_or_else(|| missing(name))?;
                Filter::ResponseHeaders(header_modifier(&format!("{field}.{name}"), modifier)?)
            }
            MIRROR => {
                let name = "requestMirror";
                let mirror = filter.request_mirror.take();
                let mirror = mirror.ok_or_else(|| missing(name))?;
                Filter::Mirror(self.mirror(&format!("{field}.{name}"), mirror)?)
            }
            REDIRECT => {
                let name = "requestRedirect";
                let redirect = filter.request_redirect.take();
                let redirect = redirect.ok_or_else(|| missing(name))?;
                Filter::Redirect(self::redirect(
                    &format!("{field}.{name}"),
                    redirect,
                    matches,
                )?)
            }
            REWRITE => {
                let name = "urlRewrite";
                let rewrite = filter.url_rewrite.take();
                let rewrite = rewrite.ok_or_else(|| missing(name))?;
                Filter::Rewrite(self::rewrite(&format!("{field}.{name}"), rewrite, matches)?)
            }
            _ => {
                let name = "cors";
                let document = filter.cors.take().ok_or_else(|| missing(name))?;
                Filter::Cors(cors(&format!("{field}.{name}"), document)?)
            }
        };
        match filter.left() {
            None => Ok(read),
            Some(name) => {
                let message = format!("does not belong to a filter of type {kind}");
                Err(FieldError::new(format!("{field}.{name}"), message))
            }
        }
    }

    fn mirror(&mut self, field: &str, mirror: schema::Mirror) -> Result<Mirror, FieldError> {
        let target = self.target(&format!("{field}.backendRef"), mirror.backend_ref);
        let (numerator, denominator) = match (mirror.percent, mirror.fraction) {
            (None, None) => (100, 100),
            (Some(percent), None) => (number(format!("{field}.percent"), percent, 0, 100)?, 100),
            (None, Some(fraction)) => {
                let field = |name: &str| format!("{field}.fraction.{name}");
                let most = i32::MAX.unsigned_abs();
                let denominator = fraction.denominator.unwrap_or(100);
                let denominator = number(field("denominator"), denominator, 1, most)?;
                let numerator = fraction.numerator;
                let numerator = number(field("numerator"), numerator, 0, denominator)?;
                (numerator, denominator)
            }
            (Some(_), Some(_)) => {
                let message = "percent and fraction exclude each other";
                return Err(FieldError::new(field, message));
            }
        };
        Ok(Mirror {
            target,
            numerator,
            denominator,
        })
    }
}

impl schema::Filter {
    /// The name of a field that is still there.
    fn left(&self) -> Option<&'static str> {
        let fields = [
            (
                "requestHeaderModifier",
                self.request_header_modifier.is_some(),
            ),
            (
                "responseHeaderModifier",
                self.response_header_modifier.is_some(),
            ),
            ("requestMirror", self.request_mirror.is_some()),
            ("requestRedirect", self.request_redirect.is_some()),
            ("urlRewrite", self.url_rewrite.is_some()),
            ("cors", self.cors.is_some()),
            ("extensionRef", self.extension_ref.is_some()),
            ("externalAuth", self.external_auth.is_some()),
        ];
        let mut left = fields.into_iter().filter(|(_, is_there)| *is_there);
        left.next().map(|(name, _)| name)
    }
}

fn header_modifier(
    field: &str,
    modifier: schema::HeaderModifier,
) -> Result<HeaderModifier, FieldError> {
    let list = |name: &str, headers: Option<Vec<schema::Header>>| {
        let mut seen = HashSet::new();
        let mut read = Vec::new();
        for (index, header) in headers.into_iter().flatten().enumerate() {
            let field = format!("{field}.{name}[{index}]");
            let name = changeable(&format!("{field}.name"), &header.name)?;
            let value = header_value(&format!("{field}.value"), &header.value)?;
            // Of several with one name the first counts.
            if seen.insert(name.clone()) {
                read.push((name, value));
            }
        }
        Ok(read)
    };
    let removed = modifier.remove.into_iter().flatten().enumerate();
    let removed =
        removed.map(|(index, name)| changeable(&format!("{field}.remove[{index}]"), &name));
    Ok(HeaderModifier {
        set: list("set", modifier.set)?,
        add: list("add", modifier.add)?,
        remove: removed.collect::<Result<_, _>>()?,
    })
}

/// The name of a header that may be changed.
fn changeable(field: &str, name: &str) -> Result<HeaderName, FieldError> {
    let name = header_name(field, name)?;
    match FRAMING.contains(&name.as_str()) {
        false => Ok(name),
        true => {
            let message = format!("`{name}` belongs to the connection and can't be changed");
            Err(FieldError::new(field, message))
        }
    }
}

fn redirect(
    field: &str,
    redirect: schema::Redirect,
    matches: &[RequestMatch],
) -> Result<Redirect, FieldError> {
    let scheme: Option<Arc<str>> = match redirect.scheme.as_deref() {
        Some(scheme @ ("http" | "https")) => Some(scheme.into()),
        None => None,
        Some(other) => return unknown(format!("{field}.scheme"), other, &["http", "https"]),
    };
    if let Some(name) = &redirect.hostname {
        host_name(&format!("{field}.hostname"), name)?;
    }
    let status = match redirect.status_code.unwrap_or(302) {
        301 => StatusCode::MOVED_PERMANENTLY,
        302 => StatusCode::FOUND,
        303 => StatusCode::SEE_OTHER,
        307 => StatusCode::TEMPORARY_REDIRECT,
        308 => StatusCode::PERMANENT_REDIRECT,
        other => {
            let known = ["301", "302", "303", "307", "308"];
            return unknown(format!("{field}.statusCode"), other, &known);
        }
    };
    let port = redirect
        .port
        .map(|number| port(format!("{field}.port"), number));
    Ok(Redirect {
        scheme,
        hostname: redirect.hostname.map(Into::into),
        path: path(field, redirect.path, matches)?,
        port: port.transpose()?,
        status,
    })
}

fn rewrite(
    field: &str,
    rewrite: schema::Rewrite,
    matches: &[RequestMatch],
) -> Result<Rewrite, FieldError> {
    let hostname = rewrite.hostname.map(|name| {
        let field = format!("{field}.hostname");
        host_name(&field, &name)?;
        header_value(&field, &name)
    });
    Ok(Rewrite {
        hostname: hostname.transpose()?,
        path: path(field, rewrite.path, matches)?,
    })
}

fn path(
    field: &str,
    path: Option<schema::PathModifier>,
    matches: &[RequestMatch],
) -> Result<Option<PathModifier>, FieldError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let field = format!("{field}.path");
    let (full, prefix) = (path.replace_full_path, path.replace_prefix_match);
    let modifier = match (path.kind.as_str(), full, prefix) {
        (FULL_PATH, Some(full), None) => PathModifier::Full(rooted(&field, full)?),
        (PREFIX_MATCH, None, Some(prefix)) => {
            let is_prefix = |matching: &RequestMatch| matches!(matching.path, PathMatch::Prefix(_));
            if !matches.iter().all(is_prefix) {
                let message = "replaces a prefix, but the rule has a match by something else";
                return Err(FieldError::new(format!("{field}.type"), message));
            }
            // Nothing in place of the prefix is a path too.
            match prefix.as_str() {
                "" => PathModifier::Prefix("".into()),
                _ => PathModifier::Prefix(rooted(&field, prefix)?),
            }
        }
        (FULL_PATH | PREFIX_MATCH, _, _) => {
            let message = format!(
                "type {} comes with `replace{}` and nothing else",
                path.kind,
                path.kind.trim_start_matches("Replace")
            );
            return Err(FieldError::new(field, message));
        }
        (other, _, _) => {
            return unknown(format!("{field}.type"), other, &[FULL_PATH, PREFIX_MATCH]);
        }
    };
    Ok(Some(modifier))
}

/// A path that can stand in a request's first line.
fn rooted(field: &str, path: String) -> Result<Arc<str>, FieldError> {
    let is_path = http::uri::PathAndQuery::try_from(path.as_str()).is_ok();
    match path.starts_with('/') && is_path && !path.contains(['?', '#']) {
        true => Ok(path.into()),
        false => {
            let message = format!("`{path}` is not a path that begins with `/`");
            Err(FieldError::new(field, message))
        }
    }
}
