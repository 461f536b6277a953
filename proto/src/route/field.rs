//! Fields that several messages have: names, ports, statuses, headers, times.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use weft_model::NamespacedName;

use crate::address::parse_port;
use crate::route::error::InvalidRoute;

/// A name from its two parts, neither of which may be empty.
pub(crate) fn namespaced_name(
    field: &'static str,
    namespace: &str,
    name: &str,
) -> Result<NamespacedName, InvalidRoute> {
    match namespace.is_empty() || name.is_empty() {
        true => Err(InvalidRoute::Missing(field)),
        false => Ok(NamespacedName::new(namespace, name)),
    }
}

/// A port that must be there.
pub(crate) fn port_field(field: &'static str, number: u32) -> Result<u16, InvalidRoute> {
    parse_port(number).ok_or_else(|| InvalidRoute::new(field, format!("{number} is not a port")))
}

/// An HTTP status.
pub(crate) fn status_field(field: &'static str, code: u32) -> Result<StatusCode, InvalidRoute> {
    let status = u16::try_from(code).ok();
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or_else(|| InvalidRoute::new(field, format!("{code} is not a status")))
}

/// The name of a header.
pub(crate) fn header_name(field: &'static str, name: &str) -> Result<HeaderName, InvalidRoute> {
    let invalid = |_| InvalidRoute::new(field, format!("`{name}` is not a header's name"));
    HeaderName::from_bytes(name.as_bytes()).map_err(invalid)
}

/// The value of a header.
pub(crate) fn header_value(field: &'static str, value: &str) -> Result<HeaderValue, InvalidRoute> {
    let invalid = |_| InvalidRoute::new(field, format!("`{value}` is not a header's value"));
    HeaderValue::from_str(value).map_err(invalid)
}

/// A text, `None` when it is empty.
pub(crate) fn non_empty<T: From<String>>(text: String) -> Option<T> {
    (!text.is_empty()).then(|| text.into())
}

/// A time in microseconds, as most messages have it.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
