//! The head of a request, as a pod's application gets it.

use http::{HeaderMap, Method};

/// The head of a request, as the application gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead<'a> {
    /// Its method.
    pub(crate) method: &'a Method,
    /// Its path without query; empty for CONNECT.
    pub(crate) path: &'a str,
    /// Its host without port; empty where it names none.
    pub(crate) host: &'a str,
    /// Its headers, but those of one connection.
    pub(crate) headers: &'a HeaderMap,
}
