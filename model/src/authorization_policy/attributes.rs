//! What is known of a connection and of a request.

use std::net::IpAddr;

use http::HeaderMap;

use crate::identity::SpiffeId;
use crate::request_authentication::Claims;

/// The client of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The identity that its certificate proves; `None` for plaintext.
    pub identity: Option<&'a SpiffeId>,
    /// Its address.
    pub address: IpAddr,
}

/// A request, as it is sent on to the workload.
#[derive(Clone, Copy, Debug)]
pub struct RequestAttributes<'a> {
    /// Method, in the case in which it came.
    pub method: &'a str,
    /// The path that is sent on, without the query: what
    /// [`PathNormalization::forwarded_path`](crate::route::path::PathNormalization) makes of it.
    /// Empty for CONNECT.
    pub path: &'a str,
    /// Host of its authority: without port, in lower case, without a dot at the end. `None` when
    /// it names none.
    pub host: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// What its token says, which was verified; `None` where it has none.
    pub claims: Option<&'a Claims>,
}
