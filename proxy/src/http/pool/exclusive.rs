//! A connection of HTTP/1, which one request has at a time, and how long it may wait for the
//! next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::http::half_close::ResponseEnd;
use crate::http::http1_sender::Http1Sender;
use crate::http::observed_stream::Observation;
use crate::stream::StreamHealth;
use crate::upstream::RequestReceiver;

/// Time that a server's end of an idle connection comes earlier than it has said, with all that
/// is late on the way.
const MARGIN: Duration = Duration::from_secs(1);
/// Time without a request after which the end of a connection may have arrived unnoticed.
const SHORT_IDLE: Duration = Duration::from_millis(100);
/// Turns of the runtime in which an end that has arrived is passed on: from the socket through
/// a tunnel's connection and its stream to the connection.
const TURNS: usize = 4;

/// A connection of HTTP/1, and what is known of what it runs on.
#[derive(Debug)]
pub(super) struct ExclusiveConnection {
    pub(super) sender: Http1Sender,
    pub(super) health: StreamHealth,
    pub(super) receiver: Option<Arc<dyn RequestReceiver>>,
    pub(super) observation: Arc<Observation>,
    /// How long the server lets it wait for a request, where it has said so.
    pub(super) keep_alive: Option<Duration>,
    /// The server's end, until somebody reads the response.
    pub(super) response_end: Option<ResponseEnd>,
}

/// A connection that waits for a request.
#[derive(Debug)]
pub(super) struct IdleConnection {
    pub(super) connection: ExclusiveConnection,
    pub(super) since: Instant,
}

impl ExclusiveConnection {
    /// Whether a request may be sent at once.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.health.is_draining()
    }
}

impl IdleConnection {
    /// Whether it may be used still, where none is kept for longer than `longest`.
    pub(super) fn is_usable(&self, longest: Duration) -> bool {
        let longest = usable_for(self.connection.keep_alive, longest);
        self.connection.is_ready() && self.since.elapsed() < longest
    }

    /// Waits for an end that has arrived already to be noticed; false where there was one.
    pub(super) async fn is_alive(&self) -> bool {
        if self.since.elapsed() >= SHORT_IDLE {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        }
        self.connection.sender.is_ready()
    }
}

/// How long a connection is used again: less than what its server has said (`Keep-Alive`, RFC
/// 2068 section 19.7.1.1), which began to count earlier than we do.
fn usable_for(keep_alive: Option<Duration>, longest: Duration) -> Duration {
    match keep_alive {
        Some(said) => longest.min(said - MARGIN.min(said / 2)),
        None => longest,
    }
}

/// The time that a response says its connection may wait for a request.
pub(super) fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let mut parameters = value
        .split(',')
        .filter_map(|part| part.trim().split_once('='));
    let (_, seconds) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    let seconds = seconds.trim().trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_used_for_less_than_its_server_has_said() {
        let longest = Duration::from_secs(50);
        for (value, expected) in [
            ("timeout=5, max=100", 4_000),
            ("max=3,Timeout=\"2\"", 1_000),
            ("timeout=1", 500),
            ("timeout=0", 0),
            ("timeout=75", 50_000),
            ("timeout=soon", 50_000),
            ("max=3", 50_000),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("keep-alive"),
                value.parse().unwrap(),
            )]);
            let usable = usable_for(keep_alive(&headers), longest);
            assert_eq!(usable, Duration::from_millis(expected), "{value}");
        }
        assert_eq!(usable_for(None, longest), longest);
    }
}
