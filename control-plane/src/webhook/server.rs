//! HTTPS for the API server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use super::review::{self, Review, Reviewer};
use crate::cluster::Cluster;
use crate::inject::InjectionOptions;
use crate::serve::accept::{StrangerLimits, accept};

/// The paths of reviews, of objects that nothing changes any more and of those that may be
/// changed; deploy/base/webhook.yaml names them.
const VALIDATE: &str = "/validate";
const MUTATE: &str = "/mutate";
/// The same, of a pod of which the API server says that its namespace is in the mesh.
const MUTATE_IN_MESH: &str = "/mutate-in-mesh";
/// Sidecars, in the same two ways.
const INJECT: &str = "/inject";
const INJECT_IN_MESH: &str = "/inject-in-mesh";
/// Largest review in bytes. etcd takes objects of 1.5 MiB, and an update sends two.
const LARGEST: usize = 8 * 1024 * 1024;
/// Bytes of a review that are always taken, and larger ones that are taken at once.
const SMALL: u64 = 256 * 1024;
const LARGE_AT_ONCE: usize = 8;
/// Time for a client to send a request's head, and as much for its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What reviews need.
struct Webhook {
    reviewer: Reviewer,
    /// Turns of reviews that are large, or of which nobody says how large they are.
    large: Semaphore,
}

impl Webhook {
    fn new(cluster: Arc<Cluster>, injection: InjectionOptions) -> Self {
        Self {
            reviewer: Reviewer { cluster, injection },
            large: Semaphore::new(LARGE_AT_ONCE),
        }
    }
}

/// Room for connections: an API server has a few, and doesn't show who it is.
const STRANGERS: StrangerLimits = StrangerLimits {
    all: 1024,
    of_one: 128,
    patience: None,
    bytes: u64::MAX,
};

/// Serves until the process ends.
pub(crate) async fn serve(
    listener: TcpListener,
    mut tls: ServerConfig,
    cluster: Arc<Cluster>,
    injection: InjectionOptions,
) {
    let webhook = Arc::new(Webhook::new(cluster, injection));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (connections, mut accepted) = mpsc::channel(64);
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let accepting = accept(listener, acceptor, STRANGERS, connections);
    let serving = async {
        while let Some(Ok(stream)) = accepted.recv().await {
            tokio::spawn(converse(stream, Arc::clone(&webhook)));
        }
    };
    tokio::join!(accepting, serving);
}

async fn converse<S>(stream: S, webhook: Arc<Webhook>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| respond(request, &webhook));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the webhook");
    }
}

/// What is asked by a path.
fn review_of(path: &str) -> Option<Review> {
    Some(match path {
        VALIDATE => review::validate,
        MUTATE => review::mutate,
        MUTATE_IN_MESH => review::mutate_in_mesh,
        INJECT => review::inject,
        INJECT_IN_MESH => review::inject_in_mesh,
        _ => return None,
    })
}

async fn respond(
    request: Request<Incoming>,
    webhook: &Webhook,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let Some(review) = review_of(request.uri().path()) else {
        let text = "reviews go to /validate, /mutate, /mutate-in-mesh, /inject and \
                    /inject-in-mesh\n";
        return Ok(plain(StatusCode::NOT_FOUND, text));
    };
    if request.method() != Method::POST {
        return Ok(plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "reviews are posted\n",
        ));
    }
    let is_small = request
        .body()
        .size_hint()
        .upper()
        .is_some_and(|most| most <= SMALL);
    let body = async {
        // It is never closed.
        let _turn = match is_small {
            true => None,
            false => Some(webhook.large.acquire().await),
        };
        Limited::new(request.into_body(), LARGEST).collect().await
    };
    let body = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, &format!("{error}\n"))),
        Err(_) => return Ok(plain(StatusCode::REQUEST_TIMEOUT, "too slow\n")),
    };
    Ok(
        match serde_json::to_vec(&review(&body, &webhook.reviewer)) {
            Ok(answer) => {
                let mut response = Response::new(Full::new(Bytes::from(answer)));
                let kind = header::HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        },
    )
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
