//! The admin endpoint, on loopback: `/healthz`, `/readyz`, `/metrics`, `/config`,
//! `/connections`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::connections::ConnectionTable;
use crate::metrics::Metrics;

/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request head in bytes.
const HEADER_BYTES: usize = 16 * 1024;

/// What has to be so before the process is ready, by name.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<&'static str, Result<(), String>>>);

impl Readiness {
    /// The named condition holds.
    pub fn met(&self, condition: &'static str) {
        self.lock().insert(condition, Ok(()));
    }

    /// The named condition doesn't hold, and why.
    pub fn unmet(&self, condition: &'static str, why: impl Into<String>) {
        self.lock().insert(condition, Err(why.into()));
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Result::is_ok)
    }

    fn describe(&self) -> String {
        let conditions = self.lock();
        let line = |(name, state): (&&str, &Result<(), String>)| match state {
            Ok(()) => format!("{name}: ok\n"),
            Err(why) => format!("{name}: {why}\n"),
        };
        conditions.iter().map(line).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `/config` shows; asked at each request.
pub type DescribeConfig = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the endpoint shows.
pub struct Admin {
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/connections`.
    pub connections: Arc<ConnectionTable>,
    /// For `/config`.
    pub config: DescribeConfig,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Serves the endpoint until the task is dropped.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let admin = Arc::clone(&admin);
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = admin.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(async move {
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

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" => {
                let ready = self.readiness.is_ready();
                let status = if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                text(status, self.readiness.describe())
            }
            "/metrics" => match self.metrics.encode() {
                Ok(metrics) => {
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    response(StatusCode::OK, kind, metrics)
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/config" => json(&(self.config)()),
            "/connections" => json(&self.connections.list()),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz /readyz /metrics /config /connections\n".into(),
            ),
        }
    }
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => response(StatusCode::OK, "application/json", text + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
