//! What a rule is for.

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderName, Method};
use weft_model::route::RequestMatch;
use weft_model::route::matching::{PathMatch, ValueMatch};

use super::reader::{Reader, header_name, pattern, unknown};
use super::schema;
use crate::kinds::field_error::FieldError;

const EXACT: &str = "Exact";
const PREFIX: &str = "PathPrefix";
const REGEX: &str = "RegularExpression";
/// The methods that the Gateway API knows (RFC 9110 and PATCH).
pub(super) const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

impl Reader<'_> {
    /// `matches` of an HTTPRoute's rule. None of them means all requests.
    pub(super) fn http_matches(
        &mut self,
        field: &str,
        matches: Option<Vec<schema::HttpMatch>>,
    ) -> Vec<RequestMatch> {
        let matches = matches.unwrap_or_default();
        if matches.is_empty() {
            return vec![RequestMatch::default()];
        }
        let numbered = matches.into_iter().enumerate();
        let read = numbered.map(|(index, matching)| {
            let field = format!("{field}.matches[{index}]");
            let path = self.take(path(&format!("{field}.path"), matching.path));
            let method = matching.method.map(|text| method(&field, &text));
            RequestMatch {
                path: path.unwrap_or_else(|| RequestMatch::default().path),
                method: method.and_then(|method| self.take(method)),
                headers: self.headers(&field, matching.headers),
                query: self.query(&field, matching.query_params),
            }
        });
        read.collect()
    }

    /// `matches` of a GRPCRoute's rule. None of them means all calls.
    pub(super) fn grpc_matches(
        &mut self,
        field: &str,
        matches: Option<Vec<schema::GrpcMatch>>,
    ) -> Vec<RequestMatch> {
        let matches = matches.unwrap_or_default();
        let call = |path| RequestMatch {
            path,
            ..RequestMatch::default()
        };
        if matches.is_empty() {
            return vec![call(ANY_CALL)];
        }
        let numbered = matches.into_iter().enumerate();
        let read = numbered.map(|(index, matching)| {
            let field = format!("{field}.matches[{index}]");
            let path = match matching.method {
                None => Ok(ANY_CALL),
                Some(method) => called(&format!("{field}.method"), method),
            };
            RequestMatch {
                headers: self.headers(&field, matching.headers),
                ..call(self.take(path).unwrap_or(ANY_CALL))
            }
        });
        read.collect()
    }

    /// Of several with one name the first counts.
    fn headers(
        &mut self,
        field: &str,
        headers: Option<Vec<schema::NamedMatch>>,
    ) -> Vec<(HeaderName, ValueMatch)> {
        let mut seen = HashSet::new();
        let mut read = Vec::new();
        for (index, header) in headers.into_iter().flatten().enumerate() {
            let field = format!("{field}.headers[{index}]");
            let name = self.take(header_name(&format!("{field}.name"), &header.name));
            let value = self.take(value(&field, &header));
            if let Some((name, value)) = name.zip(value)
                && seen.insert(name.clone())
            {
                read.push((name, value));
            }
        }
        read
    }

    /// Of several with one name the first counts.
    fn query(
        &mut self,
        field: &str,
        parameters: Option<Vec<schema::NamedMatch>>,
    ) -> Vec<(Arc<str>, ValueMatch)> {
        let mut seen = HashSet::new();
        let mut read = Vec::new();
        for (index, parameter) in parameters.into_iter().flatten().enumerate() {
            let field = format!("{field}.queryParams[{index}]");
            if parameter.name.is_empty() {
                let why = "it is the name of a parameter";
                self.problems
                    .push(FieldError::missing(&format!("{field}.name"), why));
            }
            if let Some(value) = self.take(value(&field, &parameter)) {
                let name: Arc<str> = parameter.name.into();
                if seen.insert(Arc::clone(&name)) {
                    read.push((name, value));
                }
            }
        }
        read
    }
}

const ANY_CALL: PathMatch = PathMatch::Grpc {
    service: None,
    method: None,
};

fn path(field: &str, path: Option<schema::PathMatch>) -> Result<PathMatch, FieldError> {
    let (kind, value) = path.map_or((None, None), |path| (path.kind, path.value));
    let value = value.as_deref().unwrap_or("/");
    let value_field = format!("{field}.value");
    match kind.as_deref().unwrap_or(PREFIX) {
        EXACT => Ok(PathMatch::Exact(whole(value_field, value)?.into())),
        PREFIX => Ok(PathMatch::Prefix(whole(value_field, value)?.into())),
        REGEX => Ok(PathMatch::Regex(pattern(&value_field, value)?)),
        other => unknown(format!("{field}.type"), other, &[EXACT, PREFIX, REGEX]),
    }
}

/// A path that a request can have: one that can't match is a mistake, such as one that
/// clients and servers normalize.
fn whole(field: String, path: &str) -> Result<&str, FieldError> {
    let refuse = |why: &str| Err(FieldError::new(field, format!("`{path}` {why}")));
    let lower = path.to_ascii_lowercase();
    let has = |part: &str| lower.contains(part);
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    if !path.starts_with('/') {
        return refuse("does not begin with `/`");
    }
    if has("//") || has("/./") || has("/../") || path.ends_with("/.") || path.ends_with("/..") {
        return refuse("has an empty element, `.` or `..`");
    }
    if has("%2f") {
        return refuse("has an encoded `/`");
    }
    let escapes = lower.split('%').skip(1);
    let is_hex = |text: &str| {
        let digits = text.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    match path.bytes().all(is_path) && escapes.into_iter().all(is_hex) {
        true => Ok(path),
        false => refuse("has a character that no path has; write it as `%` and its code"),
    }
}

fn method(field: &str, text: &str) -> Result<Method, FieldError> {
    let known = METHODS.contains(&text);
    match Method::from_bytes(text.as_bytes()).ok().filter(|_| known) {
        Some(method) => Ok(method),
        None => unknown(format!("{field}.method"), text, &METHODS),
    }
}

fn value(field: &str, named: &schema::NamedMatch) -> Result<ValueMatch, FieldError> {
    let value_field = format!("{field}.value");
    match named.kind.as_deref().unwrap_or(EXACT) {
        _ if named.value.is_empty() => {
            Err(FieldError::missing(&value_field, "it is compared with"))
        }
        EXACT => Ok(ValueMatch::Exact(named.value.as_str().into())),
        REGEX => Ok(ValueMatch::Regex(pattern(&value_field, &named.value)?)),
        other => unknown(format!("{field}.type"), other, &[EXACT, REGEX]),
    }
}

/// Which service and method of gRPC are called.
fn called(field: &str, call: schema::MethodMatch) -> Result<PathMatch, FieldError> {
    let schema::MethodMatch {
        kind,
        service,
        method,
    } = call;
    if service.is_none() && method.is_none() {
        let message = "it names a service, a method or both";
        return Err(FieldError::missing(field, message));
    }
    let (service_field, method_field) = (format!("{field}.service"), format!("{field}.method"));
    match kind.as_deref().unwrap_or(EXACT) {
        EXACT => {
            let service = service.map(|name| {
                let bare = name.strip_prefix('.').unwrap_or(&name);
                match bare.split('.').all(is_identifier) {
                    true => Ok(bare.into()),
                    false => {
                        let message = format!("`{name}` is not the name of a gRPC service");
                        Err(FieldError::new(service_field, message))
                    }
                }
            });
            let method = method.map(|name| match is_identifier(&name) {
                true => Ok(name.into()),
                false => {
                    let message = format!("`{name}` is not the name of a gRPC method");
                    Err(FieldError::new(method_field, message))
                }
            });
            Ok(PathMatch::Grpc {
                service: service.transpose()?,
                method: method.transpose()?,
            })
        }
        REGEX => {
            let service = service.map(|text| pattern(&service_field, &text));
            let method = method.map(|text| pattern(&method_field, &text));
            Ok(PathMatch::GrpcRegex {
                service: service.transpose()?,
                method: method.transpose()?,
            })
        }
        other => unknown(format!("{field}.type"), other, &[EXACT, REGEX]),
    }
}

fn is_identifier(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(inner) && !name.starts_with(|c: char| c.is_ascii_digit())
}
