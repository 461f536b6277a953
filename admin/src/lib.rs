//! Pages for operators, kubelet and Prometheus, over HTTP/1.1: what agents and control
//! plane have in common of it.
//!
//! Each process serves all of its pages on loopback, and those that tell nothing about
//! traffic or configuration (health, readiness, metrics) on an address that the rest
//! of the cluster reaches.

mod readiness;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use readiness::Readiness;

/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request head in bytes.
const HEADER_BYTES: usize = 16 * 1024;
/// Clients at a time; whoever comes then waits.
const MOST_CLIENTS: usize = 64;

/// Media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a page shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Answer {
    /// Text for people.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// An object for people and scripts, indented.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(text) => Self {
                status: StatusCode::OK,
                kind: "application/json",
                body: text + "\n",
            },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// Metrics in the OpenMetrics format, with its `# EOF`.
    pub fn open_metrics(body: String) -> Self {
        Self {
            status: StatusCode::OK,
            kind: OPEN_METRICS,
            body,
        }
    }
}

type Show = Arc<dyn Fn() -> Answer + Send + Sync>;

/// Pages by path.
#[derive(Clone, Default)]
pub struct Pages(Vec<(&'static str, Show)>);

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(path, _)| path))
            .finish()
    }
}

impl Pages {
    /// `/healthz`, which says that the process answers, and `/readyz`.
    pub fn new(readiness: Arc<Readiness>) -> Self {
        Self::default()
            .with("/healthz", || Answer::text(StatusCode::OK, "ok\n"))
            .with("/readyz", move || {
                let status = if readiness.is_ready() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                Answer::text(status, readiness.describe())
            })
    }

    /// These, and one more. What it shows is asked at each request.
    #[must_use]
    pub fn with(
        mut self,
        path: &'static str,
        show: impl Fn() -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.0.push((path, Arc::new(show)));
        self
    }

    fn answer(&self, method: &Method, path: &str) -> Answer {
        if method != Method::GET && method != Method::HEAD {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match self.0.iter().find(|(known, _)| *known == path) {
            Some((_, show)) => show(),
            None => {
                let known: Vec<_> = self.0.iter().map(|(path, _)| *path).collect();
                let text = format!("there are {}\n", known.join(" "));
                Answer::text(StatusCode::NOT_FOUND, text)
            }
        }
    }
}

impl From<Answer> for Response<Full<Bytes>> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(Full::new(Bytes::from(answer.body)));
        *response.status_mut() = answer.status;
        let kind = header::HeaderValue::from_static(answer.kind);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// Serves pages until the task is dropped.
pub async fn serve(listener: TcpListener, pages: Pages) {
    let clients = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        // The semaphore is never closed.
        let client = Arc::clone(&clients).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let pages = pages.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = pages.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(Response::from(answer)) }
        });
        tokio::spawn(async move {
            let _client = client;
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "admin client");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    fn pages(readiness: &Arc<Readiness>) -> Pages {
        Pages::new(Arc::clone(readiness)).with("/config", || Answer::json(&[1]))
    }

    #[test]
    fn readiness_is_told_by_status_and_in_words() {
        let readiness = Arc::new(Readiness::default());
        readiness.unmet("configuration", "nothing came yet");
        let pages = pages(&readiness);
        let answer = pages.answer(&Method::GET, "/readyz");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.body, "configuration: nothing came yet\n");
        readiness.met("configuration");
        let answer = pages.answer(&Method::GET, "/readyz");
        assert_eq!(answer.status, StatusCode::OK);
    }

    #[test]
    fn an_unknown_page_names_those_there_are_and_nothing_is_changed_by_any() {
        let pages = pages(&Arc::default());
        let answer = pages.answer(&Method::GET, "/");
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.body, "there are /healthz /readyz /config\n");
        let answer = pages.answer(&Method::POST, "/config");
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn pages_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, pages(&Arc::default())));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("content-type: application/json"),
            "{answer}"
        );
    }
}
