//! Bodies of answers, and answers that are little more.

use std::convert::Infallible;
use std::fmt::Display;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use serde_json::{Value, json};

/// Why a body breaks off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// Every answer's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Bodies that can't fail, as the one kind of body that there is.
pub(super) fn infallible(error: Infallible) -> BodyError {
    match error {}
}

/// No body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(infallible).boxed_unsync()
}

/// A status without a body.
pub(super) fn nothing_but(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// 200 with JSON.
pub(super) fn json(value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{value}\n")));
    let mut response = Response::new(body.map_err(infallible).boxed_unsync());
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// 400 with the reason.
pub(super) fn bad_request(error: &dyn Display) -> Response<Body> {
    let mut response = json(&json!({ "error": error.to_string() }));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
