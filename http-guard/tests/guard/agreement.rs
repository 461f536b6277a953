//! The guard and hyper's server behind it see the same requests, whatever the bytes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_http_guard::{Guard, GuardHandle, GuardedStream, Limits};

use super::requests::{almost_requests, pieces};

/// A request: its method, and its body if that is complete.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    method: String,
    body: Option<Vec<u8>>,
}

/// The requests that a guard alone lets pass, when every upgrade is denied.
fn seen_by_guard(input: &[u8]) -> Vec<Seen> {
    let mut guard = Guard::default();
    let mut seen: Vec<Seen> = Vec::new();
    // Where the request, and its body, began.
    let (mut start, mut body) = (0, 0);
    for (at, byte) in input.iter().enumerate() {
        guard.deny_upgrade();
        let before = guard.requests();
        if guard.inspect(std::slice::from_ref(byte)).is_err() {
            break;
        }
        if guard.requests() > before {
            body = at + 1;
            let method = first_word(&input[start..]);
            seen.push(Seen { method, body: None });
        }
        let is_complete = guard.requests() == seen.len() as u64 && !guard.is_in_body();
        if let Some(last) = seen
            .last_mut()
            .filter(|last| is_complete && last.body.is_none())
        {
            last.body = Some(content(&input[start..body], &input[body..=at]));
            start = at + 1;
        }
    }
    seen
}

fn first_word(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    head.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A body without its chunks' lines.
fn content(head: &[u8], mut body: &[u8]) -> Vec<u8> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !head.contains("\ntransfer-encoding:") {
        return body.to_vec();
    }
    let mut content = Vec::new();
    loop {
        let end = body
            .iter()
            .position(|byte| matches!(byte, b';' | b'\r'))
            .unwrap();
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return content;
        }
        let line_feed = body.iter().position(|byte| *byte == b'\n').unwrap();
        let data = &body[line_feed + 1..];
        content.extend_from_slice(&data[..size]);
        body = &data[size + 2..];
    }
}

/// The requests that hyper's server reads behind a guard, and all of its responses.
async fn seen_by_server(input: &[u8], cuts: &[usize]) -> (Vec<Seen>, String) {
    let (mut client, server) = tokio::io::duplex(1024 * 1024);
    let (stream, handle) = GuardedStream::new(server, Limits::DEFAULT);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request| record(request, Arc::clone(&seen), handle.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let talk = async {
        let mut start = 0;
        for cut in cuts.iter().copied().chain([input.len()]) {
            // It may be closed already.
            let _ = client.write_all(&input[start..cut]).await;
            start = cut;
            tokio::task::yield_now().await;
        }
        let _ = client.shutdown().await;
        let mut responses = Vec::new();
        client.read_to_end(&mut responses).await.unwrap();
        String::from_utf8(responses).unwrap()
    };
    let both = async { tokio::join!(async move { drop(connection.await) }, talk).1 };
    let responses = both.await;
    let seen = seen.lock().unwrap().clone();
    (seen, responses)
}

async fn record(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    handle: GuardHandle,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let method = request.method().to_string();
    let body = request.into_body().collect().await;
    let body = body.ok().map(|body| body.to_bytes().to_vec());
    seen.lock().unwrap().push(Seen { method, body });
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NOT_FOUND;
    handle.response_decided(StatusCode::NOT_FOUND);
    Ok(response)
}

proptest! {
    #[test]
    fn a_server_behind_the_guard_reads_what_the_guard_let_pass(
        input in prop_oneof![1 => pieces(), 9 => almost_requests()],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (server, responses) = runtime.block_on(seen_by_server(&input, &cuts));
        let guard = seen_by_guard(&input);
        let shown = input.escape_ascii().to_string();
        // It may know of further reasons to refuse, HTTP/1.0 ends with its first response,
        // and what comes ahead of the answer to an upgrade is refused: it sees fewer requests
        // then, but none that the guard doesn't see.
        prop_assert!(server.len() <= guard.len(), "{shown}: {server:?} {guard:?}");
        prop_assert_eq!(&guard[..server.len()], &server[..], "{}", shown);
        if !shown.contains("HTTP/1.0") && !responses.contains(" 400 ") {
            prop_assert_eq!(&guard, &server, "{}", shown);
        }
    }
}
