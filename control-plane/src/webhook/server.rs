//! HTTPS for the API server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::review;
use crate::serve::server::accept;

/// The path of reviews; deploy/base/webhook.yaml names it.
const PATH: &str = "/validate";
/// Largest review in bytes. etcd takes objects of 1.5 MiB, and an update sends two.
const LARGEST: usize = 8 * 1024 * 1024;
/// Time for a client to send a request's head, and as much for its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, mut tls: ServerConfig) {
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (connections, mut accepted) = mpsc::channel(64);
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let accepting = accept(listener, acceptor, connections);
    let serving = async {
        while let Some(Ok(stream)) = accepted.recv().await {
            tokio::spawn(converse(stream));
        }
    };
    tokio::join!(accepting, serving);
}

async fn converse(stream: TlsStream<TcpStream>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service_fn(respond));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the webhook");
    }
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != PATH {
        return Ok(plain(StatusCode::NOT_FOUND, "reviews go to /validate\n"));
    }
    if request.method() != Method::POST {
        return Ok(plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "reviews are posted\n",
        ));
    }
    let body = Limited::new(request.into_body(), LARGEST).collect();
    let body = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, &format!("{error}\n"))),
        Err(_) => return Ok(plain(StatusCode::REQUEST_TIMEOUT, "too slow\n")),
    };
    Ok(match serde_json::to_vec(&review::answer(&body)) {
        Ok(answer) => {
            let mut response = Response::new(Full::new(Bytes::from(answer)));
            let kind = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    })
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}
