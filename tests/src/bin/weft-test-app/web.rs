//! A web server for tests of the mesh's HTTP: HTTP/1.1, HTTP/2 with prior knowledge,
//! WebSocket and gRPC on one port. It says what it saw, and does what a request asks of
//! it: see [`behaviour`].

mod answer;
mod behaviour;
mod body;
mod connection;
mod seen;

use std::io;
use std::sync::Arc;

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use self::behaviour::Behaviour;
pub(crate) use self::body::Body;
use self::connection::Connection;
use self::seen::Seen;
use crate::address::plain;
use crate::grpc;
use crate::servers::{self, Listen};
use crate::{report, websocket};

/// How every HTTP/2 connection begins, as far as no HTTP/1 request does.
const PREFACE: &[u8] = b"PRI ";

/// Where to serve, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// What it says it is.
    #[arg(long)]
    name: String,
}

/// What all connections share.
struct Server {
    name: String,
    seen: Seen,
}

pub(crate) async fn serve(arguments: Arguments) -> io::Result<()> {
    // Handlers are plain functions: what they share is the process's.
    let _ = SERVER.set(Arc::new(Server {
        name: arguments.name,
        seen: Seen::default(),
    }));
    servers::serve(arguments.listen, handle).await
}

static SERVER: std::sync::OnceLock<Arc<Server>> = std::sync::OnceLock::new();

async fn handle(stream: TcpStream) -> io::Result<()> {
    let Some(server) = SERVER.get() else {
        return Ok(());
    };
    let connection = Connection {
        local: plain(stream.local_addr()?),
        peer: plain(stream.peer_addr()?),
        number: server.seen.connection(),
    };
    let is_http2 = starts_with_preface(&stream).await?;
    let service = service_fn(move |request| respond(Arc::clone(server), connection, request));
    let stream = TokioIo::new(stream);
    let served = if is_http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(stream, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(stream, service)
            .with_upgrades()
            .await
    };
    served.map_err(io::Error::other)
}

/// Looks at the first bytes without taking them.
async fn starts_with_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        if length == 0 || start[..length] != PREFACE[..length] {
            return Ok(false);
        }
        if length == start.len() {
            return Ok(true);
        }
        tokio::task::yield_now().await;
    }
}

/// A connection that ends without an answer, because the request asked for that.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as asked")]
struct Closed;

async fn respond(
    server: Arc<Server>,
    connection: Connection,
    request: Request<Incoming>,
) -> Result<Response<Body>, Closed> {
    server.seen.request(&request);
    if request.uri().path().starts_with(seen::PATH) {
        return Ok(server.seen.administer(&request));
    }
    let behaviour = match Behaviour::of(&request, &server.name, &server.seen) {
        Ok(behaviour) => behaviour,
        Err(error) => return Ok(body::bad_request(&error)),
    };
    behaviour.wait().await;
    if behaviour.close {
        return Err(Closed);
    }
    if is_grpc(&request) {
        return Ok(match (behaviour.status, behaviour.grpc_status) {
            (Some(status), _) => body::nothing_but(status),
            (None, Some(code)) => grpc::server::refuse(code),
            (None, None) => grpc::server::respond(&server.name, request).await,
        });
    }
    if websocket::is_asked_for(request.headers()) && behaviour.status.is_none() {
        return Ok(accept_websocket(&server.name, request));
    }
    Ok(answer::respond(&server.name, connection, request, behaviour).await)
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn accept_websocket(name: &str, request: Request<Incoming>) -> Response<Body> {
    let response = match websocket::accept(request.headers(), name) {
        Ok(response) => response,
        Err(error) => return body::bad_request(&error),
    };
    tokio::spawn(async move {
        let upgraded = match hyper::upgrade::on(request).await {
            Ok(upgraded) => upgraded,
            Err(error) => return report::complain(&error),
        };
        if let Err(error) = websocket::echo(TokioIo::new(upgraded)).await {
            report::complain(&error);
        }
    });
    response.map(|()| body::empty())
}
