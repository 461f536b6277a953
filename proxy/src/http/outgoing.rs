//! A request on its way to the next hop, as routes change it.

use std::net::SocketAddr;

use http::header::CONTENT_LENGTH;
use http::{Extensions, HeaderMap, Method, Request, Uri};
use hyper::ext::Protocol;

use super::body::RequestBody;
use super::headers::{
    NoAuthority, TargetForm, restore_upgrade, strip_hop_by_hop, target_for_next_hop,
};
use super::request_info::RequestInfo;

/// The head of a request on its way, without what concerned its last hop.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingRequest {
    /// Its method.
    pub(crate) method: Method,
    /// Its target; of HTTP/1 only path and query are sent, unless the client sent a URL.
    pub(crate) target: Uri,
    /// `host` or `host:port`.
    pub(crate) authority: String,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// The protocol of an extended CONNECT (RFC 8441).
    pub(crate) protocol: Option<Protocol>,
    /// The letters of its fields' names as they came, which hyper keeps here.
    pub(crate) extensions: Extensions,
}

impl OutgoingRequest {
    /// Takes the head and the body of a request apart. Where it names no host, as it may in
    /// HTTP/1.0, it gets the address that the client dialled: the next hop speaks a version
    /// that needs one (RFC 9112 section 3.2).
    pub(crate) fn from_request<B>(
        request: Request<B>,
        info: &RequestInfo,
        dialled: SocketAddr,
    ) -> (Self, B) {
        let (mut parts, body) = request.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        if info.connect {
            // It has no body (RFC 9110 section 9.3.6), whatever it says.
            parts.headers.remove(CONTENT_LENGTH);
        }
        let authority = match info.authority.as_str() {
            "" => dialled.to_string(),
            authority => authority.to_owned(),
        };
        let outgoing = Self {
            method: parts.method,
            target: parts.uri,
            authority,
            headers: parts.headers,
            protocol: parts.extensions.remove::<Protocol>(),
            extensions: parts.extensions,
        };
        (outgoing, body)
    }

    /// The request as the next hop's version of HTTP has it.
    ///
    /// # Errors
    /// When it has no host and the next hop needs one.
    pub(crate) fn to_request(
        &self,
        info: &RequestInfo,
        http2: bool,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, NoAuthority> {
        let mut headers = self.headers.clone();
        let (target, authority) = (&self.target, self.authority.as_str());
        let form = match (http2, info.has_url) {
            (true, _) => TargetForm::Http2,
            (false, true) => TargetForm::Absolute,
            (false, false) => TargetForm::Origin,
        };
        let target = target_for_next_hop(target, authority, info.connect, &mut headers, form)?;
        if let Some(protocol) = &info.upgrade {
            restore_upgrade(&mut headers, protocol);
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target;
        *request.headers_mut() = headers;
        if !http2 {
            *request.extensions_mut() = self.extensions.clone();
        } else if let Some(protocol) = &self.protocol {
            request.extensions_mut().insert(protocol.clone());
        }
        Ok(request)
    }
}
