//! What holds for any bytes.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;
use weft_http_guard::{Guard, Refused};

use super::inspect;
use super::requests::{almost_requests, pieces};

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_where_reads_were_cut(
        input in prop_oneof![pieces(), almost_requests()],
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = inspect(&input);
        let mut guard = Guard::default();
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(input.len() + 1)).collect();
        cuts.push(input.len());
        cuts.sort_unstable();
        let (mut start, mut parts) = (0, Ok(0));
        for cut in cuts {
            let inspected = guard.inspect(&input[start..cut]);
            start = cut;
            parts = inspected.map(|_| guard.requests()).map_err(|refused| refused.refusal);
            if parts.is_err() {
                break;
            }
        }
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn what_is_complete_before_a_refusal_passes_alone(input in prop_oneof![pieces(), almost_requests()]) {
        if let Err(Refused { complete, .. }) = Guard::default().inspect(&input) {
            let mut guard = Guard::default();
            prop_assert_eq!(guard.inspect(&input[..complete]), Ok(complete));
            prop_assert!(!guard.is_in_body());
        }
    }

    #[test]
    fn what_hypers_client_writes_passes(
        method in "(GET|POST|PUT|DELETE|OPTIONS|PATCH|X-OWN)",
        path in "/[a-zA-Z0-9._~%!$&'()*+,;=:@/-]{0,40}(\\?[a-z0-9=&]{0,20})?",
        host in "[a-z0-9.-]{1,20}(:[1-9][0-9]{0,3})?",
        headers in prop::collection::vec(("x-[a-z0-9-]{1,20}", "[ -~\t]{0,40}"), 0..10),
        body in prop::collection::vec("[\\x00-\\x7f]{1,40}", 0..4),
        streamed in any::<bool>(),
    ) {
        let mut request = http::Request::builder().method(&*method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(name, value.trim());
        }
        let body = if streamed {
            let frames: Vec<_> = body.into_iter().map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text)))).collect();
            Either::Left(StreamBody::new(tokio_stream::iter(frames)))
        } else {
            Either::Right(Full::new(Bytes::from(body.concat())))
        };
        let written = written_by_hyper(request.body(body).unwrap());
        let mut guard = Guard::default();
        prop_assert_eq!(guard.inspect(&written), Ok(written.len()), "{:?}", written.escape_ascii().to_string());
        prop_assert_eq!((guard.requests(), guard.is_in_body()), (1, false));
    }
}

/// The bytes of a request as hyper's HTTP/1 client writes them.
fn written_by_hyper<B>(request: http::Request<B>) -> Vec<u8>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, mut server) = tokio::io::duplex(64 * 1024);
        let connecting = hyper::client::conn::http1::handshake(TokioIo::new(client));
        let (mut sender, connection) = connecting.await.unwrap();
        let driver = tokio::spawn(connection);
        let answer = tokio::spawn(async move { sender.send_request(request).await.map(drop) });
        let (mut written, mut guard) = (Vec::new(), Guard::default());
        // Until the request is over, by hyper's own measure: it then waits for an answer.
        loop {
            let before = written.len();
            if server.read_buf(&mut written).await.unwrap() == 0 {
                break;
            }
            if guard.inspect(&written[before..]).is_err()
                || (guard.requests() == 1 && !guard.is_in_body())
            {
                break;
            }
        }
        driver.abort();
        answer.abort();
        written
    })
}
