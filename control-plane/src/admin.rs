//! The admin endpoint, on loopback: `/healthz`, `/readyz`, `/metrics`, `/config`,
//! `/errors`, `/agents`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::state::State;

/// What the endpoint shows.
pub(crate) struct Admin {
    pub(crate) state: Arc<State>,
    /// The manifests were read once.
    pub(crate) ready: AtomicBool,
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, admin: Arc<Admin>) {
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
                .header_read_timeout(Duration::from_secs(5))
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
            "/readyz" if self.ready.load(Ordering::Acquire) => {
                text(StatusCode::OK, "manifests: ok\n".into())
            }
            "/readyz" => {
                let why = "manifests: not read yet\n".into();
                text(StatusCode::SERVICE_UNAVAILABLE, why)
            }
            "/metrics" => text(StatusCode::OK, self.metrics()),
            "/config" => reply(&self.config()),
            "/errors" => {
                let (files, objects) = self.state.errors();
                reply(&json!({ "files": files, "objects": objects }))
            }
            "/agents" => reply(&json!(self.state.agents())),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz /readyz /metrics /config /errors /agents\n".into(),
            ),
        }
    }

    fn config(&self) -> Value {
        let resources = self.state.resources();
        let described = resources.after(None).map(|((kind, name), versioned)| {
            let mut described = json!({
                "kind": kind.as_str_name(),
                "name": &**name,
                "version": versioned.version,
            });
            if let weft_model::Change::Workload(workload) = &versioned.change {
                described["enrolment"] = format!("{:?}", workload.enrolment).into();
                described["mtls_mode"] = workload.mtls_mode.to_string().into();
                described["identity"] = workload.identity.to_string().into();
                described["node"] = workload.node.to_string().into();
                let addresses: Vec<_> =
                    workload.addresses.iter().map(ToString::to_string).collect();
                described["addresses"] = addresses.into();
            }
            described
        });
        described.collect()
    }

    /// Few and simple enough to write by hand.
    fn metrics(&self) -> String {
        let (files, objects) = self.state.errors();
        let agents = self.state.agents();
        let connected = agents.values().filter(|agent| agent.streams > 0).count();
        let rejected: usize = agents.values().map(|agent| agent.rejected.len()).sum();
        let failed: usize = agents.values().map(|agent| agent.failed_pods.len()).sum();
        let resources = self.state.resources().len();
        let metrics = [
            (
                "weft_control_plane_resources",
                "Resources that agents are told",
                resources,
            ),
            (
                "weft_control_plane_agents",
                "Agents that are connected",
                connected,
            ),
            (
                "weft_control_plane_rejected_resources",
                "Resources that agents rejected",
                rejected,
            ),
            (
                "weft_control_plane_failed_pods",
                "Pods that agents could not capture",
                failed,
            ),
            (
                "weft_control_plane_broken_files",
                "Manifest files that are broken",
                files.len(),
            ),
            (
                "weft_control_plane_conflicts",
                "Objects left out because of others",
                objects.len(),
            ),
        ];
        let text = |(name, help, value): (&str, &str, usize)| {
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
        };
        metrics.map(text).concat()
    }
}

fn reply(value: &Value) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
