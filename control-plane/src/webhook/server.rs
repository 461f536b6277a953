//! HTTPS for the API server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::body::{Bodies, BodyError};
use super::review;
use crate::cluster::Cluster;
use crate::serve::accept::{StrangerLimits, accept};

/// The paths of reviews, of objects that nothing changes any more and of those that may be
/// changed; deploy/base/webhook.yaml names them.
const VALIDATE: &str = "/validate";
const MUTATE: &str = "/mutate";
/// The same, of a pod of which the API server says that its namespace is in the mesh.
const MUTATE_IN_MESH: &str = "/mutate-in-mesh";
/// Time for a client to send a request's head, and as much for its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What reviews need.
struct Webhook {
    cluster: Arc<Cluster>,
    bodies: Bodies,
}

impl Webhook {
    fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            bodies: Bodies::default(),
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
pub(crate) async fn serve(listener: TcpListener, mut tls: ServerConfig, cluster: Arc<Cluster>) {
    let webhook = Arc::new(Webhook::new(cluster));
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

async fn respond(
    request: Request<Incoming>,
    webhook: &Webhook,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let review = match request.uri().path() {
        VALIDATE => review::validate as fn(&_, &_) -> _,
        MUTATE => review::mutate,
        MUTATE_IN_MESH => review::mutate_in_mesh,
        _ => {
            let text = "reviews go to /validate, /mutate and /mutate-in-mesh\n";
            return Ok(plain(StatusCode::NOT_FOUND, text));
        }
    };
    if request.method() != Method::POST {
        return Ok(plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "reviews are posted\n",
        ));
    }
    let body = webhook.bodies.read(request.into_body());
    let body = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(error @ BodyError::Broken(_))) => {
            return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, &format!("{error}\n")));
        }
        Ok(Err(BodyError::TooSlow)) | Err(_) => {
            return Ok(plain(StatusCode::REQUEST_TIMEOUT, "too slow\n"));
        }
    };
    Ok(match serde_json::to_vec(&review(&body, &webhook.cluster)) {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::super::body::{LARGE_AT_ONCE, LARGEST, PATIENCE, SMALL};
    use super::*;

    /// A client of the webhook that has sent the head of a review of that length.
    async fn begin(webhook: &Arc<Webhook>, length: usize) -> DuplexStream {
        let (mut client, server) = tokio::io::duplex(1024 * 1024);
        tokio::spawn(converse(server, Arc::clone(webhook)));
        let head =
            format!("POST /validate HTTP/1.1\r\nHost: weft\r\nContent-Length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client
    }

    async fn status(client: &mut DuplexStream) -> String {
        let mut answer = vec![0; 1024];
        let read = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_senders_of_large_reviews_keep_nobody_waiting_and_nobody_ends_them_for_nothing() {
        let webhook = Arc::new(Webhook::new(Arc::new(Cluster::of_directory())));
        let began = Instant::now();
        let part = vec![b' '; SMALL + 1];
        let mut slow = Vec::new();
        // Those that announce much and send nothing have no turn.
        for sent in [&part[..], b""] {
            for _ in 0..LARGE_AT_ONCE {
                let mut client = begin(&webhook, LARGEST).await;
                client.write_all(sent).await.unwrap();
                slow.push(client);
            }
        }
        let mut small = begin(&webhook, SMALL).await;
        small.write_all(&part[..SMALL]).await.unwrap();
        assert_eq!(status(&mut small).await, "200");
        assert!(began.elapsed() < PATIENCE / 2);
        let mut large = begin(&webhook, part.len()).await;
        large.write_all(&part).await.unwrap();
        assert_eq!(status(&mut large).await, "200");
        assert!(began.elapsed() <= PATIENCE * 3 / 2, "{:?}", began.elapsed());
        let mut again = begin(&webhook, part.len()).await;
        again.write_all(&part).await.unwrap();
        assert_eq!(status(&mut again).await, "200");
        // One has made room for it, the others have all their time.
        let mut left = Vec::new();
        for mut slow in slow {
            let at_once = Duration::from_millis(1);
            match tokio::time::timeout(at_once, status(&mut slow)).await {
                Ok(status) => assert_eq!(status, "408"),
                Err(_) => left.push(slow),
            }
        }
        assert_eq!(left.len(), 2 * LARGE_AT_ONCE - 1);
        for slow in &mut left {
            assert_eq!(status(slow).await, "408");
        }
        assert!(began.elapsed() >= REQUEST_TIMEOUT);
        assert!(began.elapsed() < REQUEST_TIMEOUT * 3 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_review_that_is_larger_than_any_is_refused() {
        let webhook = Arc::new(Webhook::new(Arc::new(Cluster::of_directory())));
        let mut client = begin(&webhook, LARGEST + 1).await;
        let part = vec![b' '; 512 * 1024];
        let sending = async {
            // It breaks off once that is known.
            while client.write_all(&part).await.is_ok() {}
        };
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, sending).await;
        assert_eq!(status(&mut client).await, "413");
    }
}
