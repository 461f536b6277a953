//! What a request asks of the server. Each key is a query parameter (`status=503`) or a
//! header (`x-test-status: 503`, which survives a rewritten path); the server's own
//! defaults are set at `/-/behaviour?...`. Keys:
//!
//! | key | effect |
//! | --- | --- |
//! | `status` | answers with it |
//! | `grpc-status` | ends a gRPC call with that code |
//! | `delay` | milliseconds before anything is answered |
//! | `body-delay` | milliseconds before each piece of the body |
//! | `bytes` | a body of so many bytes, streamed in pieces of 16 KiB |
//! | `trailer` | `name:value`, behind a streamed body |
//! | `header` | `name:value`, a header of the answer; may be repeated |
//! | `close` | ends the connection (HTTP/2: the stream) without an answer |
//! | `echo` | sends the request's body and trailers back |
//! | `fail-first` | answers only so many first requests of the same `key` with `status` (503), `grpc-status` or `close` |
//! | `fail-share` | answers so many of 100 requests with `status` (503), `grpc-status` or `close`, evenly |
//! | `key` | what `fail-first` and `fail-share` count by |
//! | `at` | only the server of that name does all this |

use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, StatusCode};

use super::seen::Seen;

/// Beginning of the headers that ask for something.
const PREFIX: &str = "x-test-";

/// What to do with a request.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    /// To answer with, instead of 200 or whatever the request would get.
    pub(super) status: Option<StatusCode>,
    /// To end a gRPC call with.
    pub(super) grpc_status: Option<i32>,
    delay: Duration,
    /// Before each piece of the body.
    pub(super) body_delay: Duration,
    /// Length of the streamed body, if one is asked for.
    pub(super) bytes: Option<u64>,
    /// Behind the streamed body.
    pub(super) trailer: Option<(HeaderName, HeaderValue)>,
    /// Of the answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// End without an answer.
    pub(super) close: bool,
    /// Send the body back.
    pub(super) echo: bool,
    fail_first: Option<u64>,
    fail_share: Option<u64>,
    key: String,
    at: Option<String>,
}

/// A request that asks for what there is not.
#[derive(Debug, thiserror::Error)]
#[error("`{key}={value}` asks for nothing that this server does")]
pub(super) struct Unclear {
    key: String,
    value: String,
}

impl Behaviour {
    /// Reads the server's defaults, then the request.
    pub(super) fn of<B>(request: &Request<B>, name: &str, seen: &Seen) -> Result<Self, Unclear> {
        let mut behaviour = Self::default();
        let defaults = seen.defaults();
        let query = request.uri().query().unwrap_or_default();
        for (key, value) in parameters(&defaults).chain(parameters(query)) {
            behaviour.set(key, value)?;
        }
        for (header, value) in request.headers() {
            let key = header.as_str().strip_prefix(PREFIX);
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                behaviour.set(key, value)?;
            }
        }
        if behaviour.at.as_ref().is_some_and(|at| at != name) {
            return Ok(Self::default());
        }
        behaviour.decide_failure(seen);
        Ok(behaviour)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Unclear> {
        let unclear = || Unclear {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        match key {
            "status" => self.status = Some(value.parse().map_err(|_| unclear())?),
            "grpc-status" => self.grpc_status = Some(number(value).ok_or_else(unclear)?),
            "delay" => self.delay = milliseconds(value).ok_or_else(unclear)?,
            "body-delay" => self.body_delay = milliseconds(value).ok_or_else(unclear)?,
            "bytes" => self.bytes = Some(number(value).ok_or_else(unclear)?),
            "trailer" => self.trailer = Some(field(value).ok_or_else(unclear)?),
            "header" => self.headers.push(field(value).ok_or_else(unclear)?),
            "close" => self.close = true,
            "echo" => self.echo = true,
            "fail-first" => self.fail_first = Some(number(value).ok_or_else(unclear)?),
            "fail-share" => self.fail_share = Some(number(value).ok_or_else(unclear)?),
            "key" => value.clone_into(&mut self.key),
            "at" => self.at = Some(value.to_owned()),
            // Others' parameters are no business of ours.
            _ => {}
        }
        Ok(())
    }

    /// Status and close hold for the failures only, when only some are to fail.
    fn decide_failure(&mut self, seen: &Seen) {
        if self.fail_first.is_none() && self.fail_share.is_none() {
            return;
        }
        let count = seen.count(&self.key);
        let first = self.fail_first.is_some_and(|first| count < first);
        // Evenly: whenever the share's line passes the next whole number.
        let share = |share: u64| (count + 1) * share / 100 > count * share / 100;
        if first || self.fail_share.is_some_and(share) {
            if !self.close && self.grpc_status.is_none() {
                self.status = self.status.or(Some(StatusCode::SERVICE_UNAVAILABLE));
            }
        } else {
            (self.status, self.grpc_status, self.close) = (None, None, false);
        }
    }

    /// Waits as asked before an answer.
    pub(super) async fn wait(&self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn milliseconds(text: &str) -> Option<Duration> {
    number(text).map(Duration::from_millis)
}

fn field(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.parse().ok()?, value.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviour(seen: &Seen, query: &str) -> Behaviour {
        let request = Request::get(format!("/?{query}")).body(()).unwrap();
        Behaviour::of(&request, "one", seen).unwrap()
    }

    #[test]
    fn headers_and_query_ask_for_the_same() {
        let seen = Seen::default();
        assert_eq!(behaviour(&seen, "status=503").status.unwrap(), 503);
        let request = Request::get("/")
            .header("x-test-status", "404")
            .body(())
            .unwrap();
        let behaviour = Behaviour::of(&request, "one", &seen).unwrap();
        assert_eq!(behaviour.status.unwrap(), 404);
        let unclear = Request::get("/?delay=soon").body(()).unwrap();
        assert!(Behaviour::of(&unclear, "one", &seen).is_err());
    }

    #[test]
    fn the_first_requests_of_a_key_fail_and_later_ones_do_not() {
        let seen = Seen::default();
        let failed = |key: &str| {
            behaviour(&seen, &format!("fail-first=2&key={key}"))
                .status
                .is_some()
        };
        assert_eq!(
            [failed("a"), failed("a"), failed("b"), failed("a")],
            [true, true, true, false]
        );
    }

    #[test]
    fn a_share_fails_evenly() {
        let seen = Seen::default();
        let failed = (0..100).filter(|_| behaviour(&seen, "fail-share=30").status.is_some());
        assert_eq!(failed.count(), 30);
    }

    #[test]
    fn only_the_named_server_behaves() {
        let seen = Seen::default();
        assert!(behaviour(&seen, "status=500&at=two").status.is_none());
        assert!(behaviour(&seen, "status=500&at=one").status.is_some());
    }
}
