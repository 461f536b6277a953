//! Filters on the wire.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use weft_model::route::Filter;
use weft_model::route::cors::Cors;
use weft_model::route::filter::{HeaderModifier, Mirror, PathModifier, Redirect, Rewrite};

use crate::route::backend::backend_target;
use crate::route::error::InvalidRoute;
use crate::route::field::{header_name, header_value, non_empty, port_field, status_field};
use crate::v1;
use crate::v1::path_modifier::Path;
use crate::v1::route_filter::Filter as Message;

impl TryFrom<v1::RouteFilter> for Filter {
    type Error = InvalidRoute;

    fn try_from(message: v1::RouteFilter) -> Result<Self, Self::Error> {
        // A step that this version doesn't know must not be left out silently.
        match message
            .filter
            .ok_or(InvalidRoute::Missing("filters.filter"))?
        {
            Message::RequestHeaders(message) => Ok(Self::RequestHeaders(modifier(message)?)),
            Message::ResponseHeaders(message) => Ok(Self::ResponseHeaders(modifier(message)?)),
            Message::Redirect(message) => redirect(message).map(Self::Redirect),
            Message::Rewrite(message) => rewrite(message).map(Self::Rewrite),
            Message::Mirror(message) => mirror(message).map(Self::Mirror),
            Message::Cors(message) => Ok(Self::Cors(cors(message))),
        }
    }
}

fn modifier(message: v1::HeaderModifier) -> Result<HeaderModifier, InvalidRoute> {
    const FIELD: &str = "filters.headers";
    let headers = |list: Vec<v1::Header>| {
        let pair = |v1::Header { name, value }| {
            Ok((header_name(FIELD, &name)?, header_value(FIELD, &value)?))
        };
        list.into_iter()
            .map(pair)
            .collect::<Result<_, InvalidRoute>>()
    };
    let remove = message.remove.iter();
    Ok(HeaderModifier {
        set: headers(message.set)?,
        add: headers(message.add)?,
        remove: remove
            .map(|name| header_name(FIELD, name))
            .collect::<Result<_, _>>()?,
    })
}

fn path(message: Option<v1::PathModifier>) -> Option<PathModifier> {
    message
        .and_then(|message| message.path)
        .map(|path| match path {
            Path::Full(path) => PathModifier::Full(path.into()),
            Path::Prefix(prefix) => PathModifier::Prefix(prefix.into()),
        })
}

fn redirect(message: v1::Redirect) -> Result<Redirect, InvalidRoute> {
    let port = match message.port {
        0 => None,
        number => Some(port_field("filters.redirect.port", number)?),
    };
    Ok(Redirect {
        scheme: non_empty(message.scheme),
        hostname: non_empty(message.hostname),
        path: path(message.path),
        port,
        status: status_field("filters.redirect.status", message.status)?,
    })
}

fn rewrite(message: v1::Rewrite) -> Result<Rewrite, InvalidRoute> {
    let hostname = match message.hostname.as_str() {
        "" => None,
        name => Some(header_value("filters.rewrite.hostname", name)?),
    };
    let path = path(message.path);
    Ok(Rewrite { hostname, path })
}

fn mirror(message: v1::Mirror) -> Result<Mirror, InvalidRoute> {
    match message.denominator {
        0 => Err(InvalidRoute::Missing("filters.mirror.denominator")),
        denominator => Ok(Mirror {
            target: backend_target(message.target)?,
            numerator: message.numerator,
            denominator,
        }),
    }
}

fn cors(message: v1::Cors) -> Cors {
    let list = |list: Vec<String>| list.into_iter().map(Into::into).collect();
    Cors {
        allow_origins: list(message.allow_origins),
        allow_credentials: message.allow_credentials,
        allow_methods: list(message.allow_methods),
        allow_headers: list(message.allow_headers),
        expose_headers: list(message.expose_headers),
        max_age: Duration::from_secs(message.max_age_seconds),
    }
}

impl From<&Filter> for v1::RouteFilter {
    fn from(filter: &Filter) -> Self {
        let filter = match filter {
            Filter::RequestHeaders(modifier) => Message::RequestHeaders(modifier.into()),
            Filter::ResponseHeaders(modifier) => Message::ResponseHeaders(modifier.into()),
            Filter::Redirect(redirect) => Message::Redirect(v1::Redirect {
                scheme: text(redirect.scheme.as_ref()),
                hostname: text(redirect.hostname.as_ref()),
                path: redirect.path.as_ref().map(Into::into),
                port: redirect.port.map_or(0, u32::from),
                status: redirect.status.as_u16().into(),
            }),
            Filter::Rewrite(rewrite) => Message::Rewrite(v1::Rewrite {
                hostname: rewrite.hostname.as_ref().map(visible).unwrap_or_default(),
                path: rewrite.path.as_ref().map(Into::into),
            }),
            Filter::Mirror(mirror) => Message::Mirror(v1::Mirror {
                target: Some((&mirror.target).into()),
                numerator: mirror.numerator,
                denominator: mirror.denominator,
            }),
            Filter::Cors(cors) => {
                let list = |list: &[Arc<str>]| list.iter().map(ToString::to_string).collect();
                Message::Cors(v1::Cors {
                    allow_origins: list(&cors.allow_origins),
                    allow_credentials: cors.allow_credentials,
                    allow_methods: list(&cors.allow_methods),
                    allow_headers: list(&cors.allow_headers),
                    expose_headers: list(&cors.expose_headers),
                    max_age_seconds: cors.max_age.as_secs(),
                })
            }
        };
        Self {
            filter: Some(filter),
        }
    }
}

impl From<&HeaderModifier> for v1::HeaderModifier {
    fn from(modifier: &HeaderModifier) -> Self {
        let headers = |list: &[(HeaderName, HeaderValue)]| {
            let header = |(name, value): &(HeaderName, HeaderValue)| v1::Header {
                name: name.to_string(),
                value: visible(value),
            };
            list.iter().map(header).collect()
        };
        Self {
            set: headers(&modifier.set),
            add: headers(&modifier.add),
            remove: modifier.remove.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&PathModifier> for v1::PathModifier {
    fn from(modifier: &PathModifier) -> Self {
        let path = match modifier {
            PathModifier::Full(path) => Path::Full(path.to_string()),
            PathModifier::Prefix(prefix) => Path::Prefix(prefix.to_string()),
        };
        Self { path: Some(path) }
    }
}

fn text(value: Option<&Arc<str>>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

/// Values come from texts, so they are texts.
fn visible(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
