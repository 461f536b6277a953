//! What the parts of a route have in common when they are read.

use std::fmt::Display;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use weft_model::NamespacedName;
use weft_model::route::matching::Pattern;
use weft_model::route::{BackendTarget, RouteKey};

use super::object::{InvalidReference, ReferenceProblem};
use super::schema;
use crate::kinds::field_error::FieldError;

/// Reads a route, and collects what is wrong with it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) route: &'a RouteKey,
    /// Each costs the whole route.
    pub(super) problems: Vec<FieldError>,
    /// Each costs the requests that would go there.
    pub(super) invalid: Vec<InvalidReference>,
}

impl Reader<'_> {
    /// A value that could be read, or a note of the problem.
    pub(super) fn take<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// Notes what is wrong with a field.
    pub(super) fn complain(&mut self, field: impl Into<String>, message: impl ToString) {
        self.problems.push(FieldError::new(field, message));
    }

    /// The target of a reference, as far as it says so itself.
    pub(super) fn target(&mut self, field: &str, reference: schema::Reference) -> BackendTarget {
        let namespace = reference.namespace.as_deref();
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let service = NamespacedName::new(
            namespace.unwrap_or(&self.route.name.namespace),
            &reference.name,
        );
        if reference.name.is_empty() {
            self.problems.push(FieldError::missing(
                &format!("{field}.name"),
                "it names a Service",
            ));
        }
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Service");
        if !(group.is_empty() && kind == "Service") {
            let dot = if group.is_empty() { "" } else { "." };
            let message = format!("{kind}{dot}{group} {service} is not a Service");
            return self.nowhere(field, ReferenceProblem::Kind, message);
        }
        match reference.port {
            None => {
                let message = format!("no port of Service {service} is named");
                self.nowhere(field, ReferenceProblem::NotFound, message)
            }
            Some(number) => {
                let port = self.take(port(format!("{field}.port"), number));
                let port = port.unwrap_or_default();
                BackendTarget::Service { service, port }
            }
        }
    }

    fn nowhere(&mut self, field: &str, why: ReferenceProblem, message: String) -> BackendTarget {
        let reason = message.as_str().into();
        self.invalid.push(InvalidReference {
            field: field.to_owned(),
            why,
            message,
        });
        BackendTarget::Invalid { reason }
    }
}

/// A port number.
pub(super) fn port(field: String, number: i64) -> Result<u16, FieldError> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        FieldError::new(field, format!("{number} is not a port between 1 and 65535"))
    })
}

/// A value that has to be one of some.
pub(super) fn unknown<T>(
    field: impl Into<String>,
    value: impl Display,
    known: &[&str],
) -> Result<T, FieldError> {
    Err(FieldError::not_one_of(field, value, known))
}

/// A number within bounds.
pub(super) fn number(field: String, number: i64, least: u32, most: u32) -> Result<u32, FieldError> {
    let checked = u32::try_from(number).ok();
    let checked = checked.filter(|number| (least..=most).contains(number));
    let message = || format!("{number} is not between {least} and {most}");
    checked.ok_or_else(|| FieldError::new(field, message()))
}

/// The name of a header.
pub(super) fn header_name(field: &str, name: &str) -> Result<HeaderName, FieldError> {
    let message = |_| FieldError::new(field, format!("`{name}` is not the name of a header"));
    HeaderName::from_bytes(name.as_bytes()).map_err(message)
}

/// The value of a header.
pub(super) fn header_value(field: &str, value: &str) -> Result<HeaderValue, FieldError> {
    let is_trimmed = value.trim_matches([' ', '\t']) == value;
    let value = HeaderValue::from_str(value).ok().filter(|_| is_trimmed);
    let message = "not the value of a header: visible characters, with spaces only between them";
    value.ok_or_else(|| FieldError::new(field, message))
}

/// A regular expression.
pub(super) fn pattern(field: &str, text: &str) -> Result<Pattern, FieldError> {
    match text {
        "" => Err(FieldError::missing(field, "it is a regular expression")),
        text => Pattern::new(text).map_err(|error| FieldError::new(field, error)),
    }
}

/// A DNS name that is no IP address.
pub(super) fn host_name(field: &str, name: &str) -> Result<(), FieldError> {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<IpAddr>().is_ok();
    match name.len() <= 253 && name.split('.').all(is_label) && !is_address {
        true => Ok(()),
        false => {
            let message = format!("`{name}` is not a host name of lower-case letters");
            Err(FieldError::new(field, message))
        }
    }
}
