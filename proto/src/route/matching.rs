//! Matches on the wire.

use http::Method;
use weft_model::route::RequestMatch;
use weft_model::route::matching::{PathMatch, Pattern, ValueMatch};

use crate::route::error::InvalidRoute;
use crate::route::field::{header_name, non_empty};
use crate::v1;
use crate::v1::named_match::Value;
use crate::v1::request_match::Path;

impl TryFrom<v1::RequestMatch> for RequestMatch {
    type Error = InvalidRoute;

    fn try_from(message: v1::RequestMatch) -> Result<Self, Self::Error> {
        const PATH: &str = "matches.path";
        let optional = |text: String| match text.is_empty() {
            true => Ok(None),
            false => pattern(PATH, &text).map(Some),
        };
        let path = match message.path.ok_or(InvalidRoute::Missing(PATH))? {
            Path::Exact(path) => PathMatch::Exact(path.into()),
            Path::Prefix(prefix) => PathMatch::Prefix(prefix.into()),
            Path::Regex(text) => PathMatch::Regex(pattern(PATH, &text)?),
            Path::Grpc(v1::GrpcMatch { service, method }) => PathMatch::Grpc {
                service: non_empty(service),
                method: non_empty(method),
            },
            Path::GrpcRegex(v1::GrpcMatch { service, method }) => PathMatch::GrpcRegex {
                service: optional(service)?,
                method: optional(method)?,
            },
        };
        let method = match message.method.as_str() {
            "" => None,
            text => {
                let invalid = |error| InvalidRoute::new("matches.method", error);
                Some(Method::from_bytes(text.as_bytes()).map_err(invalid)?)
            }
        };
        let headers = message.headers.into_iter().map(|message| {
            const FIELD: &str = "matches.headers";
            Ok((
                header_name(FIELD, &message.name)?,
                value(FIELD, message.value)?,
            ))
        });
        let query = message.query.into_iter().map(|message| {
            let value = value("matches.query", message.value)?;
            Ok((message.name.into(), value))
        });
        Ok(Self {
            path,
            method,
            headers: headers.collect::<Result<_, InvalidRoute>>()?,
            query: query.collect::<Result<_, InvalidRoute>>()?,
        })
    }
}

fn pattern(field: &'static str, text: &str) -> Result<Pattern, InvalidRoute> {
    Pattern::new(text).map_err(|error| InvalidRoute::new(field, error))
}

fn value(field: &'static str, message: Option<Value>) -> Result<ValueMatch, InvalidRoute> {
    match message.ok_or(InvalidRoute::Missing(field))? {
        Value::Exact(text) => Ok(ValueMatch::Exact(text.into())),
        Value::Regex(text) => Ok(ValueMatch::Regex(pattern(field, &text)?)),
    }
}

impl From<&RequestMatch> for v1::RequestMatch {
    fn from(matching: &RequestMatch) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let path = match &matching.path {
            PathMatch::Exact(path) => Path::Exact(path.to_string()),
            PathMatch::Prefix(prefix) => Path::Prefix(prefix.to_string()),
            PathMatch::Regex(pattern) => Path::Regex(pattern.as_str().to_owned()),
            PathMatch::Grpc { service, method } => Path::Grpc(v1::GrpcMatch {
                service: text(service.as_deref()),
                method: text(method.as_deref()),
            }),
            PathMatch::GrpcRegex { service, method } => Path::GrpcRegex(v1::GrpcMatch {
                service: text(service.as_ref().map(Pattern::as_str)),
                method: text(method.as_ref().map(Pattern::as_str)),
            }),
        };
        let headers = matching.headers.iter();
        let query = matching.query.iter();
        Self {
            path: Some(path),
            method: matching
                .method
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            headers: headers
                .map(|(name, value)| named(name.as_str(), value))
                .collect(),
            query: query.map(|(name, value)| named(name, value)).collect(),
        }
    }
}

fn named(name: &str, value: &ValueMatch) -> v1::NamedMatch {
    let value = match value {
        ValueMatch::Exact(text) => Value::Exact(text.to_string()),
        ValueMatch::Regex(pattern) => Value::Regex(pattern.as_str().to_owned()),
    };
    v1::NamedMatch {
        name: name.to_owned(),
        value: Some(value),
    }
}
