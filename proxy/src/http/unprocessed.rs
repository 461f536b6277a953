//! What errors of HTTP/2 say: that a server certainly did nothing with a request, or that a stream
//! was reset.

use std::error::Error;

use h2::Reason;

use super::body::BodyError;

/// Whether the server has said that it did nothing with a request: its connection was on its
/// way out, or the stream was refused.
pub(crate) fn was_refused(error: &(dyn Error + 'static)) -> bool {
    let refused = |error: &h2::Error| error.reason() == Some(Reason::REFUSED_STREAM);
    was_sent_away(error)
        || http2_error(error).is_some_and(|error| error.is_remote() && refused(error))
}

/// Whether a request's stream is above the last one of a GOAWAY. Streams up to that one end by an
/// error of the connection instead (RFC 9113 sections 6.8 and 8.7).
pub(crate) fn was_sent_away(error: &(dyn Error + 'static)) -> bool {
    http2_error(error).is_some_and(|error| error.is_remote() && error.is_go_away())
}

/// The failure of a body whose stream was reset without an error ahead of its end (RFC 9113
/// section 7). hyper takes that for the end, and a part would look like the whole.
pub(super) fn reset_without_error() -> BodyError {
    h2::Error::from(Reason::NO_ERROR).into()
}

/// Whether the other end has reset the stream alone, for whatever reason.
pub(super) fn is_stream_reset(error: &(dyn Error + 'static)) -> bool {
    http2_error(error).is_some_and(|error| {
        // That of a reset which hyper takes for an end is made up here.
        error.is_reset() || (error.reason() == Some(Reason::NO_ERROR) && !error.is_go_away())
    })
}

/// What a client of HTTP/2 is told of a request with which nothing was done: whoever has all of it
/// may send it again (RFC 9113 section 8.7).
pub(crate) fn refusal() -> BodyError {
    h2::Error::from(Reason::REFUSED_STREAM).into()
}

fn http2_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use weft_testing::wait::in_time;

    use super::*;
    use crate::http::body::RequestBody;
    use crate::http::handshake::{SHARED, handshake_http2};
    use crate::settings::HeadLimits;

    /// The end of a request whose stream the server resets for that reason.
    async fn reset(reason: Reason) -> hyper::Error {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let server = h2::server::handshake(far).await;
            let mut server = server.unwrap();
            while let Some(Ok((_request, mut respond))) = server.accept().await {
                respond.send_reset(reason);
            }
        });
        let memory = Arc::default();
        let client = handshake_http2(near, HeadLimits::default(), SHARED, &memory);
        let mut sender = client.await.unwrap().sender;
        let request = Request::post("http://web/").body(RequestBody::Empty);
        let sent = in_time(sender.send(request.unwrap())).await;
        sent.unwrap_err().error
    }

    #[tokio::test]
    async fn only_a_refused_stream_was_certainly_not_processed() {
        for (reason, expected) in [
            (Reason::REFUSED_STREAM, true),
            (Reason::CANCEL, false),
            (Reason::INTERNAL_ERROR, false),
        ] {
            let error = reset(reason).await;
            assert_eq!(was_refused(&error), expected, "{reason:?}");
        }
    }

    /// A server that ends the connection at once when the first request has arrived, and says
    /// that it was the last one, or that there was none.
    async fn sent_away(last_stream: u8) -> hyper::Error {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            // SETTINGS, and the acknowledgement of the client's.
            let settings = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
            far.write_all(settings).await.unwrap();
            let mut received = Vec::new();
            // Flags of HEADERS that are all of the request, and the stream's number.
            let headers = b"\x01\x05\0\0\0\x01";
            while !received.windows(6).any(|part| part == headers) {
                received.push(far.read_u8().await.unwrap());
            }
            let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, 0];
            far.write_all(&go_away).await.unwrap();
        });
        let memory = Arc::default();
        let client = handshake_http2(near, HeadLimits::default(), SHARED, &memory);
        let mut sender = client.await.unwrap().sender;
        let request = Request::post("http://web/").body(RequestBody::Empty);
        let sent = in_time(sender.send(request.unwrap())).await;
        sent.unwrap_err().error
    }

    #[tokio::test]
    async fn a_request_above_the_last_one_of_a_goaway_was_certainly_not_processed() {
        let error = sent_away(0).await;
        assert!(was_sent_away(&error) && was_refused(&error), "{error:?}");
        let error = sent_away(1).await;
        assert!(!was_refused(&error), "{error:?}");
    }
}
