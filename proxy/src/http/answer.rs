//! Answers of the proxy itself: to requests that go nowhere.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use weft_model::mesh::Unroutable;

use super::response::ResponseBody;
use crate::error::unroutable_flag;
use crate::resilience::Refused;
use crate::telemetry::flag::ResponseFlag;

/// Says in a response of the proxy itself why it is none of the application.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-weft-reason");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why the proxy answers itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// A rule redirects.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
        /// Where to.
        location: HeaderValue,
    },
    /// A browser asks whether it may send a request.
    Preflight(Box<HeaderMap>),
    /// No rule is for the request.
    NoRule,
    /// The rule has no backend to send to.
    NoBackend,
    /// The backend whose turn it was doesn't exist.
    InvalidBackend,
    /// Nobody serves the Service.
    Unroutable(Unroutable),
    /// The request isn't one that can be sent on.
    BadRequest(&'static str),
    /// No endpoint took a connection.
    Unreachable {
        /// The short word of the last failure.
        flag: ResponseFlag,
    },
    /// The connection broke before an answer.
    Broken,
    /// It took too long.
    Timeout,
    /// A limit of the Service's policy.
    Refused(Refused),
    /// Asked too often.
    RateLimited(Box<TooOften>),
    /// The rate limit service didn't say, and the policy wants its word.
    RateLimitUnavailable,
    /// It fails on purpose, as HTTP.
    Fault(StatusCode),
    /// It fails on purpose, as gRPC.
    GrpcFault(u16),
}

/// What a client is told that asked too often.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TooOften {
    /// When to ask again.
    pub(crate) retry_after: Option<Duration>,
    /// What the rate limit service wants to be told.
    pub(crate) headers: HeaderMap,
    /// Its words; empty where it has none.
    pub(crate) body: Bytes,
}

impl Answer {
    /// The short word for metrics, the access log and the header.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Redirect { .. } | Self::Preflight(_) => ResponseFlag::None,
            Self::NoRule => ResponseFlag::NoRoute,
            Self::NoBackend | Self::InvalidBackend => ResponseFlag::NoBackend,
            Self::Unroutable(error) => unroutable_flag(error),
            Self::BadRequest(_) => ResponseFlag::BadRequest,
            Self::Unreachable { flag } => *flag,
            Self::Refused(refused) => refused.reason(),
            Self::RateLimitUnavailable => ResponseFlag::RateLimitUnavailable,
            Self::Broken => ResponseFlag::UpstreamReset,
            Self::Timeout => ResponseFlag::Timeout,
            Self::RateLimited(_) => ResponseFlag::RateLimited,
            Self::Fault(_) | Self::GrpcFault(_) => ResponseFlag::Fault,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Redirect { status, .. } | Self::Fault(status) => *status,
            Self::Preflight(_) | Self::GrpcFault(_) => StatusCode::OK,
            Self::NoRule => StatusCode::NOT_FOUND,
            Self::NoBackend | Self::InvalidBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unroutable(_)
            | Self::Unreachable { .. }
            | Self::Broken
            | Self::RateLimitUnavailable
            | Self::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The status of gRPC (doc/statuscodes.md of gRPC); what it makes of the other
    /// statuses stands in its doc/http-grpc-status-mapping.md.
    fn grpc_status(&self) -> u16 {
        match self {
            Self::GrpcFault(status) => *status,
            Self::NoRule => 12,
            Self::Timeout => 4,
            Self::RateLimited(_) => 8,
            Self::BadRequest(_) => 13,
            Self::Fault(status) => match status.as_u16() {
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
            Self::NoRule => "no rule of the service's routes is for this request".into(),
            Self::NoBackend => "the rule for this request has no backend with a weight".into(),
            Self::InvalidBackend => {
                "the backend of this request doesn't exist; see the route's status".into()
            }
            Self::Unroutable(error) => error.to_string(),
            Self::BadRequest(what) => (*what).into(),
            Self::Unreachable { .. } => "no endpoint took a connection".into(),
            Self::Broken => "the endpoint broke the connection off before it answered".into(),
            Self::Timeout => "the request took longer than its route allows".into(),
            Self::Refused(refused) => refused.to_string(),
            Self::RateLimitUnavailable => "the rate limit service did not answer".into(),
            Self::RateLimited(_) => "too many requests".into(),
            Self::Fault(_) | Self::GrpcFault(_) => "fails on purpose".into(),
        }
    }

    /// Whether gRPC is answered in its own words.
    fn is_grpc_status(&self, grpc: bool) -> bool {
        let http = matches!(self, Self::Redirect { .. } | Self::Preflight(_));
        matches!(self, Self::GrpcFault(_)) || (grpc && !http)
    }

    /// The status of gRPC that the answer carries, where it carries one.
    pub(crate) fn carried_grpc_status(&self, grpc: bool) -> Option<u16> {
        self.is_grpc_status(grpc).then(|| self.grpc_status())
    }

    /// The response; to a request of gRPC its own form of failure, without a body
    /// ("Trailers-Only" in gRPC's PROTOCOL-HTTP2).
    pub(crate) fn into_response(self, grpc: bool) -> Response<ResponseBody> {
        let message = self.message();
        let flag = self.flag();
        let mut response = Response::new(ResponseBody::local(Bytes::new()));
        let headers = response.headers_mut();
        if flag != ResponseFlag::None {
            headers.insert(REASON, HeaderValue::from_static(flag.as_str()));
        }
        let as_grpc = self.is_grpc_status(grpc);
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
            Self::Preflight(answer) => headers.extend(*answer),
            Self::RateLimited(told) => {
                headers.extend(told.headers);
                wait(headers, told.retry_after);
                body = told.body;
            }
            Self::Refused(refused) => wait(headers, refused.retry_after()),
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

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::RateLimited { retry_after } => Self::RateLimited(Box::new(TooOften {
                retry_after: Some(retry_after),
                ..TooOften::default()
            })),
            other => Self::Refused(other),
        }
    }
}

fn wait(headers: &mut HeaderMap, retry_after: Option<Duration>) {
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
        for (answer, http, grpc) in [
            (Answer::NoRule, 404, 12),
            (Answer::InvalidBackend, 500, 14),
            (Answer::Timeout, 504, 4),
            (Answer::Broken, 503, 14),
            (Answer::Fault(StatusCode::IM_A_TEAPOT), 418, 2),
        ] {
            let flag = answer.flag();
            let response = answer.clone().into_response(false);
            assert_eq!(response.status().as_u16(), http, "{answer:?}");
            assert_eq!(response.headers()[REASON], flag.as_str());
            let response = answer.into_response(true);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[GRPC_STATUS], grpc.to_string());
        }
    }

    #[test]
    fn a_client_is_told_to_wait_for_whole_seconds() {
        let limited = Answer::RateLimited(Box::new(TooOften {
            retry_after: Some(Duration::from_millis(1200)),
            ..TooOften::default()
        }));
        let response = limited.into_response(false);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.status(), 429);
    }
}
