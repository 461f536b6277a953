//! A web server that remembers what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use crate::tcp;

/// A web server: HTTP/1 and, with prior knowledge, HTTP/2.
#[derive(Debug)]
pub struct WebServer {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: Mutex<Vec<Request<Bytes>>>,
    connections: AtomicUsize,
}

impl WebServer {
    /// Responds to each request, which it gets together with its number, the first being 0.
    pub fn start<B: Into<Bytes> + 'static>(
        listener: TcpListener,
        respond: impl Fn(usize, &Request<Bytes>) -> Response<B> + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::<State>::default();
        let (of_server, respond) = (Arc::clone(&state), Arc::new(respond));
        let address = tcp::serve(listener, move |stream| {
            of_server.connections.fetch_add(1, Ordering::Relaxed);
            serve(stream, Arc::clone(&of_server), Arc::clone(&respond))
        });
        Self { address, state }
    }

    /// Requests that arrived so far.
    pub fn requests(&self) -> Vec<Request<Bytes>> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Number of these.
    pub fn count(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }

    /// The last of these.
    pub fn last(&self) -> Request<Bytes> {
        self.state.requests.lock().unwrap().last().unwrap().clone()
    }

    /// Forgets them: the next has the number 0 again.
    pub fn forget_requests(&self) {
        self.state.requests.lock().unwrap().clear();
    }

    /// Connections that it accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

async fn serve<B: Into<Bytes> + 'static>(
    stream: TcpStream,
    state: Arc<State>,
    respond: Arc<impl Fn(usize, &Request<Bytes>) -> Response<B> + Send + Sync + 'static>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, respond) = (Arc::clone(&state), Arc::clone(&respond));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let request = Request::from_parts(head, body);
            let number = {
                let mut requests = state.requests.lock().unwrap();
                requests.push(request.clone());
                requests.len() - 1
            };
            let response = respond(number, &request);
            Ok::<_, hyper::Error>(response.map(|body| Full::new(body.into())))
        }
    });
    let http = auto::Builder::new(TokioExecutor::new());
    // Its end is the client's business.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// Responds to every request with this text.
pub fn text(text: &'static str) -> impl Fn(usize, &Request<Bytes>) -> Response<&'static str> {
    move |_, _| Response::new(text)
}

/// A response without a body.
pub fn status(code: u16) -> Response<&'static str> {
    Response::builder().status(code).body("").unwrap()
}
