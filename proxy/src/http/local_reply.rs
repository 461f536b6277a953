//! Replies of the proxy itself, to requests that it sends nowhere.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use weft_model::mesh::Unroutable;
use weft_model::node_access::NotAProbe;
use weft_model::request_authentication::TokenRefusal;
use weft_model::route::path::UnnormalizablePath;
use weft_model::route::table::AmbiguousPath;
use weft_model::traffic::InjectedAbort;

use super::body::ResponseBody;
use crate::telemetry::ResponseFlag;
use crate::traffic::PolicyRefusal;

/// Header of a local reply with its [`ResponseFlag`], so that a client can tell it from an
/// answer of the application.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-weft-reason");
/// Time after which a token whose issuer's keys aren't there yet may be tried again.
const KEYS_PENDING: Duration = Duration::from_secs(2);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a server's proxy has answered for want of an issuer's keys: no endpoint has failed, and
/// clients choose the issuer.
pub(crate) fn is_for_pending_keys(headers: &HeaderMap) -> bool {
    let flag = ResponseFlag::TokenKeysPending.as_str();
    let reason = headers.get(REASON);
    reason.is_some_and(|reason| reason.as_bytes() == flag.as_bytes())
}

/// Why the proxy replies itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LocalReply {
    /// A rule redirects.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
        /// Where to.
        location: HeaderValue,
    },
    /// A browser asks whether it may send a request.
    Preflight(Box<HeaderMap>),
    /// No rule of the Service's routes matches the request.
    NoRoute,
    /// The pod's connections hold too much already.
    MemoryShort,
    /// Servers may read the path in ways that are for different rules.
    AmbiguousPath(AmbiguousPath),
    /// The path has no form that could be compared with the rules.
    UnnormalizablePath(UnnormalizablePath),
    /// The rule has no backend with a weight.
    NoBackend,
    /// The backend that the rule chose doesn't exist.
    InvalidBackend,
    /// The Service has no such port or no endpoint for it.
    Unroutable(Unroutable),
    /// A CONNECT to a protocol that carries requests itself.
    HidesRequests,
    /// The request can't be sent on.
    BadRequest(&'static str),
    /// No endpoint took a connection; the flag of the last attempt.
    ConnectFailed(ResponseFlag),
    /// The connection broke before the endpoint responded.
    UpstreamReset,
    /// The head of the endpoint's response can't be read, for that reason.
    BadResponse(ResponseFlag),
    /// The endpoint did not respond in time.
    Timeout,
    /// A limit of the Service's TrafficPolicy.
    PolicyRefused(PolicyRefusal),
    /// More requests than a rate limit allows.
    RateLimited(Box<RateLimitReply>),
    /// The rate limit service did not respond, and the policy fails closed.
    RateLimitUnavailable,
    /// A fault that the policy injects.
    InjectedAbort(InjectedAbort),
    /// AuthorizationPolicies of the pod deny it. Which they are is for its operators to know.
    AuthorizationDenied,
    /// The request's token is refused.
    InvalidToken(TokenRefusal),
    /// Kubelet asks a strict pod something that its probes don't declare.
    NotAProbe(NotAProbe),
}

/// The parts of a reply to a client over its rate limit that the limiter chose.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RateLimitReply {
    /// Time after which another request may pass.
    pub(crate) retry_after: Option<Duration>,
    /// Headers that the rate limit service asked us to add to the response.
    pub(crate) headers: HeaderMap,
    /// Body that it asked for; empty where it gave none.
    pub(crate) body: Bytes,
}

impl LocalReply {
    /// The flag for metrics, the access log and the header.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Redirect { .. } | Self::Preflight(_) => ResponseFlag::None,
            Self::NoRoute => ResponseFlag::NoRoute,
            Self::MemoryShort => ResponseFlag::MemoryLimit,
            Self::NoBackend | Self::InvalidBackend => ResponseFlag::NoBackend,
            Self::Unroutable(error) => error.into(),
            Self::AmbiguousPath(_) | Self::UnnormalizablePath(_) => ResponseFlag::AmbiguousPath,
            Self::BadRequest(_) | Self::HidesRequests => ResponseFlag::BadRequest,
            Self::ConnectFailed(flag) | Self::BadResponse(flag) => *flag,
            Self::PolicyRefused(refusal) => refusal.flag(),
            Self::RateLimitUnavailable => ResponseFlag::RateLimitUnavailable,
            Self::UpstreamReset => ResponseFlag::UpstreamReset,
            Self::Timeout => ResponseFlag::Timeout,
            Self::RateLimited(_) => ResponseFlag::RateLimited,
            Self::InjectedAbort(_) => ResponseFlag::Fault,
            Self::NotAProbe(_) => ResponseFlag::Deny,
            Self::AuthorizationDenied => ResponseFlag::AuthorizationDenied,
            Self::InvalidToken(refusal) if refusal.is_temporary() => ResponseFlag::TokenKeysPending,
            Self::InvalidToken(_) => ResponseFlag::InvalidToken,
        }
    }

    /// The status of its response.
    pub(crate) fn response_status(&self, grpc: bool) -> StatusCode {
        match self.uses_grpc_status(grpc) {
            true => StatusCode::OK,
            false => self.status(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Redirect { status, .. } | Self::InjectedAbort(InjectedAbort::Http(status)) => {
                *status
            }
            Self::Preflight(_) | Self::InjectedAbort(InjectedAbort::Grpc(_)) => StatusCode::OK,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NotAProbe(_)
            | Self::AuthorizationDenied
            | Self::ConnectFailed(ResponseFlag::AuthorizationDenied) => StatusCode::FORBIDDEN,
            // Clients throw a token away that gets 401.
            Self::InvalidToken(refusal) if refusal.is_temporary() => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::NoBackend | Self::InvalidBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::AmbiguousPath(_) | Self::UnnormalizablePath(_) | Self::BadRequest(_) => {
                StatusCode::BAD_REQUEST
            }
            // RFC 8441 has none for it, RFC 9220 this one.
            Self::HidesRequests => StatusCode::NOT_IMPLEMENTED,
            Self::BadResponse(_) => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unroutable(_)
            | Self::ConnectFailed(_)
            | Self::UpstreamReset
            | Self::MemoryShort
            | Self::RateLimitUnavailable
            | Self::PolicyRefused(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The gRPC status (doc/statuscodes.md of gRPC); for an HTTP status, what
    /// doc/http-grpc-status-mapping.md makes of it.
    fn grpc_status(&self) -> u16 {
        match self {
            Self::InjectedAbort(InjectedAbort::Grpc(status)) => *status,
            Self::NoRoute | Self::HidesRequests => 12,
            Self::Timeout => 4,
            Self::RateLimited(_) => 8,
            Self::InvalidToken(refusal) if refusal.is_temporary() => 14,
            Self::InvalidToken(_) => 16,
            Self::AmbiguousPath(_) | Self::UnnormalizablePath(_) | Self::BadRequest(_) => 13,
            Self::NotAProbe(_)
            | Self::AuthorizationDenied
            | Self::ConnectFailed(ResponseFlag::AuthorizationDenied) => 7,
            Self::InjectedAbort(InjectedAbort::Http(status)) => match status.as_u16() {
                400 => 13,
                401 => 16,
                403 => 7,
                404 => 12,
                429 | 502 | 503 | 504 => 14,
                _ => 2,
            },
            _ => 14,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Redirect { .. } | Self::Preflight(_) => String::new(),
            Self::NoRoute => "no rule of the service's routes is for this request".into(),
            Self::MemoryShort => "the pod's connections hold too much memory already".into(),
            Self::AmbiguousPath(error) => error.to_string(),
            Self::UnnormalizablePath(error) => error.to_string(),
            Self::NoBackend => "the rule for this request has no backend with a weight".into(),
            Self::InvalidBackend => {
                "the backend of this request doesn't exist; see the route's status".into()
            }
            Self::Unroutable(error) => error.to_string(),
            Self::HidesRequests => {
                "requests within a CONNECT are none that the mesh could follow rules for".into()
            }
            Self::BadRequest(what) => (*what).into(),
            Self::AuthorizationDenied | Self::ConnectFailed(ResponseFlag::AuthorizationDenied) => {
                "access denied by authorization policy".into()
            }
            Self::InvalidToken(refusal) => refusal.to_string(),
            Self::ConnectFailed(_) => "no endpoint took a connection".into(),
            Self::UpstreamReset => {
                "the endpoint broke the connection off before it answered".into()
            }
            Self::BadResponse(ResponseFlag::ResponseTooLarge) => {
                "the head of the endpoint's response is larger than the proxy reads".into()
            }
            Self::BadResponse(_) => "the endpoint's response is not HTTP".into(),
            Self::Timeout => "the request took longer than its route allows".into(),
            Self::PolicyRefused(refusal) => refusal.to_string(),
            Self::RateLimitUnavailable => "the rate limit service did not answer".into(),
            Self::RateLimited(_) => "too many requests".into(),
            Self::InjectedAbort(_) => "fails on purpose".into(),
            Self::NotAProbe(refusal) => refusal.to_string(),
        }
    }

    /// Whether the reply has gRPC's own form.
    fn uses_grpc_status(&self, grpc: bool) -> bool {
        let http = matches!(self, Self::Redirect { .. } | Self::Preflight(_));
        let injected = matches!(self, Self::InjectedAbort(InjectedAbort::Grpc(_)));
        injected || (grpc && !http)
    }

    /// The gRPC status that the reply carries, where it carries one.
    pub(crate) fn carried_grpc_status(&self, grpc: bool) -> Option<u16> {
        self.uses_grpc_status(grpc).then(|| self.grpc_status())
    }

    /// The response; to a gRPC call its own form of failure, without a body
    /// ("Trailers-Only" in gRPC's PROTOCOL-HTTP2).
    pub(crate) fn into_response(self, grpc: bool) -> Response<ResponseBody> {
        let message = self.message();
        let flag = self.flag();
        let mut response = Response::new(ResponseBody::local(Bytes::new()));
        let headers = response.headers_mut();
        if flag != ResponseFlag::None {
            headers.insert(REASON, HeaderValue::from_static(flag.as_str()));
        }
        let as_grpc = self.uses_grpc_status(grpc);
        if as_grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from(self.grpc_status()));
            if let Ok(message) = HeaderValue::try_from(&message) {
                headers.insert(GRPC_MESSAGE, message);
            }
        } else if !message.is_empty() {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(CONTENT_TYPE, text);
        }
        let (status, mut body) = (self.status(), Bytes::new());
        match self {
            Self::Redirect { location, .. } => {
                headers.insert(LOCATION, location);
            }
            Self::Preflight(allowed) => headers.extend(*allowed),
            Self::RateLimited(reply) => {
                headers.extend(reply.headers);
                set_retry_after(headers, reply.retry_after);
                body = reply.body;
            }
            Self::PolicyRefused(refusal) => set_retry_after(headers, refusal.retry_after()),
            Self::InvalidToken(refusal) if refusal.is_temporary() => {
                set_retry_after(headers, Some(KEYS_PENDING));
            }
            // RFC 6750 section 3.
            Self::InvalidToken(refusal) => {
                let challenge =
                    format!("Bearer error=\"invalid_token\", error_description=\"{refusal}\"");
                if let Ok(challenge) = HeaderValue::try_from(challenge) {
                    headers.insert(WWW_AUTHENTICATE, challenge);
                }
            }
            _ => {}
        }
        if !as_grpc {
            *response.status_mut() = status;
            if body.is_empty() && !message.is_empty() {
                body = Bytes::from(format!("weft: {message}\n"));
            }
            *response.body_mut() = ResponseBody::local(body);
        }
        response
    }
}

impl From<PolicyRefusal> for LocalReply {
    fn from(refusal: PolicyRefusal) -> Self {
        match refusal {
            PolicyRefusal::RateLimited { retry_after }
            | PolicyRefusal::ReceivingRateLimited { retry_after } => {
                Self::RateLimited(Box::new(RateLimitReply {
                    retry_after: Some(retry_after),
                    ..RateLimitReply::default()
                }))
            }
            other => Self::PolicyRefused(other),
        }
    }
}

fn set_retry_after(headers: &mut HeaderMap, retry_after: Option<Duration>) {
    if let Some(wait) = retry_after {
        // A part of a second is too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_gets_a_status_and_grpc_its_own() {
        for (reply, http, grpc) in [
            (LocalReply::NoRoute, 404, 12),
            (LocalReply::InvalidBackend, 500, 14),
            (LocalReply::Timeout, 504, 4),
            (LocalReply::NotAProbe(NotAProbe::Port(80)), 403, 7),
            (LocalReply::AuthorizationDenied, 403, 7),
            (LocalReply::InvalidToken(TokenRefusal::Expired), 401, 16),
            (LocalReply::InvalidToken(TokenRefusal::KeysPending), 503, 14),
            (
                LocalReply::ConnectFailed(ResponseFlag::AuthorizationDenied),
                403,
                7,
            ),
            (LocalReply::UpstreamReset, 503, 14),
            (
                LocalReply::BadResponse(ResponseFlag::ResponseTooLarge),
                502,
                14,
            ),
            (
                LocalReply::InjectedAbort(InjectedAbort::Http(StatusCode::IM_A_TEAPOT)),
                418,
                2,
            ),
        ] {
            let flag = reply.flag();
            let response = reply.clone().into_response(false);
            assert_eq!(response.status().as_u16(), http, "{reply:?}");
            assert_eq!(response.headers()[REASON], flag.as_str());
            let response = reply.into_response(true);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[GRPC_STATUS], grpc.to_string());
        }
    }

    #[test]
    fn a_client_is_told_why_its_token_is_refused() {
        for grpc in [false, true] {
            let reply = LocalReply::InvalidToken(TokenRefusal::Expired);
            let response = reply.into_response(grpc);
            let challenge = "Bearer error=\"invalid_token\", \
                             error_description=\"the token has expired\"";
            assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge);
        }
    }

    #[test]
    fn a_client_whose_issuer_is_not_known_yet_is_told_to_come_again_and_keeps_its_token() {
        let reply = LocalReply::InvalidToken(TokenRefusal::KeysPending);
        assert_eq!(reply.flag(), ResponseFlag::TokenKeysPending);
        let response = reply.into_response(false);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
    }

    #[test]
    fn what_waits_for_keys_is_told_from_other_failures() {
        for (refusal, expected) in [
            (TokenRefusal::KeysPending, true),
            (TokenRefusal::Expired, false),
        ] {
            for is_grpc in [false, true] {
                let response = LocalReply::InvalidToken(refusal).into_response(is_grpc);
                assert_eq!(is_for_pending_keys(response.headers()), expected);
            }
        }
        assert!(!is_for_pending_keys(&HeaderMap::new()));
    }

    #[test]
    fn a_client_is_told_to_wait_for_whole_seconds() {
        let limited = LocalReply::RateLimited(Box::new(RateLimitReply {
            retry_after: Some(Duration::from_millis(1200)),
            ..RateLimitReply::default()
        }));
        let response = limited.into_response(false);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.status(), 429);
    }
}
