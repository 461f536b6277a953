//! A response on its way back to the client.

use http::header::CONNECTION;
use http::response::Parts;
use http::{HeaderValue, Response, Version};
use hyper::body::Body;

use super::body::ResponseBody;
use super::request_info::RequestInfo;

/// The response as the client's version of HTTP has it. HTTP/1.0 knows no chunks: a body
/// whose length nobody has told ends with its connection, whatever the client asked for.
/// `is_last` ends the connection in any case.
pub(crate) fn to_client(
    info: &RequestInfo,
    mut head: Parts,
    mut body: ResponseBody,
    is_last: bool,
) -> Response<ResponseBody> {
    // The version is the client's connection's business.
    head.version = Version::default();
    let has_no_length = !body.is_end_stream() && body.size_hint().exact().is_none();
    if info.http10 && has_no_length {
        // hyper would add that the connection is kept.
        head.version = Version::HTTP_10;
        body.ends_with_connection();
    }
    if is_last || (info.http10 && has_no_length) {
        let close = HeaderValue::from_static("close");
        head.headers.append(CONNECTION, close);
    }
    Response::from_parts(head, body)
}
