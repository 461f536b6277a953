//! Answers: what the server saw as JSON, the body back, or a stream of bytes.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::behaviour::Behaviour;
use super::body::{Body, BodyError, bad_request, json};
use super::connection::Connection;

/// Bytes of one piece of a stream.
const PIECE: usize = 16 * 1024;

/// Answers as asked.
pub(super) async fn respond(
    name: &str,
    connection: Connection,
    request: Request<Incoming>,
    behaviour: Behaviour,
) -> Response<Body> {
    let mut response = if behaviour.echo {
        Response::new(request.into_body().map_err(Into::into).boxed_unsync())
    } else if let Some(bytes) = behaviour.bytes {
        Response::new(stream(bytes, &behaviour))
    } else {
        match describe(name, connection, request).await {
            Ok(description) => json(&description),
            Err(error) => bad_request(&error),
        }
    };
    if let Some(status) = behaviour.status {
        *response.status_mut() = status;
    }
    response.headers_mut().extend(
        behaviour
            .headers
            .into_iter()
            .map(|(name, value)| (Some(name), value)),
    );
    // Who answered stands in a header too: not every answer has a body of ours.
    if let Ok(name) = name.parse() {
        response.headers_mut().insert("x-test-server", name);
    }
    response
}

/// What the server saw of a request, its body's length and SHA-256 included.
async fn describe(
    name: &str,
    connection: Connection,
    request: Request<Incoming>,
) -> Result<Value, hyper::Error> {
    let (head, mut body) = request.into_parts();
    let (mut length, mut digest, mut trailers) = (0, Context::new(&SHA256), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                length += data.len();
                digest.update(&data);
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let digest = digest.finish();
    let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    Ok(json!({
        "name": name,
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "authority": head.uri.authority().map(ToString::to_string),
        "version": format!("{:?}", head.version),
        "headers": fields(&head.headers),
        "trailers": fields(&trailers),
        "received": length,
        "sha256": digest.collect::<String>(),
        "local": connection.local,
        "peer": connection.peer,
        "connection": connection.number,
    }))
}

/// Each name with the list of its values.
fn fields(fields: &HeaderMap) -> Value {
    let values = |name| {
        let values = fields.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let pairs = fields
        .keys()
        .map(|name| (name.as_str().to_owned(), values(name)));
    Value::Object(pairs.collect::<serde_json::Map<String, Value>>())
}

/// Bytes piece by piece, then the trailer. The length is not told ahead.
fn stream(bytes: u64, behaviour: &Behaviour) -> Body {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
    let (delay, trailer) = (behaviour.body_delay, behaviour.trailer.clone());
    tokio::spawn(async move {
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let piece = Bytes::from(vec![b'x'; length]);
            if sender.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
            left -= length as u64;
        }
        if let Some(trailer) = trailer {
            let trailers = HeaderMap::from_iter([trailer]);
            // Whoever doesn't want the end any more has gone.
            let _ = sender.send(Ok(Frame::trailers(trailers))).await;
        }
    });
    StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync()
}
