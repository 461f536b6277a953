//! Many HTTP requests, and who answered them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::report::{self, Tally};

/// Answers up to which the order of servers is reported.
const SEQUENCE: u64 = 100;

/// Requests to whom, and how many.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// Host of the requests; the address when left out.
    #[arg(long)]
    host: Option<String>,
    /// Path and query.
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long, default_value = "GET")]
    method: Method,
    /// `NAME:VALUE`; may be repeated.
    #[arg(long = "header")]
    headers: Vec<Field>,
    /// Bytes of each request's body.
    #[arg(long, default_value_t = 0)]
    body: usize,
    /// How many in all.
    #[arg(long, default_value_t = 1)]
    requests: u64,
    /// How many at the same time, each on a connection of its own (HTTP/2: all on one).
    #[arg(long, default_value_t = 1)]
    parallel: usize,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    #[arg(long)]
    http2: bool,
    /// A new connection for each request.
    #[arg(long)]
    close: bool,
    /// Milliseconds that one request may take.
    #[arg(long, default_value_t = 10_000)]
    timeout: u64,
}

/// A header field.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: HeaderName,
    /// Its value.
    pub(crate) value: HeaderValue,
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || format!("`{text}` is not NAME:VALUE");
        let (name, value) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Self {
            name: name.parse().map_err(|_| invalid())?,
            value: value.trim().parse().map_err(|_| invalid())?,
        })
    }
}

/// What came of one request.
struct Answered {
    status: u16,
    name: String,
    took: Duration,
}

/// A connection that takes requests.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let (start, arguments) = (Instant::now(), Arc::new(arguments));
    let left = Arc::new(AtomicU64::new(arguments.requests));
    let shared = match arguments.http2 && !arguments.close {
        true => Some(connect_http2(arguments.to).await?),
        false => None,
    };
    let mut clients = JoinSet::new();
    for _ in 0..arguments.parallel.max(1) {
        let sender = shared.clone().map(Sender::Http2);
        clients.spawn(client(Arc::clone(&arguments), Arc::clone(&left), sender));
    }
    let mut results = Vec::new();
    while let Some(client) = clients.join_next().await {
        results.extend(client?);
    }
    report::write(&summary(results, start.elapsed()))
}

/// Makes requests one after the other while some are left.
async fn client(
    arguments: Arc<Arguments>,
    left: Arc<AtomicU64>,
    mut sender: Option<Sender>,
) -> Vec<io::Result<Answered>> {
    let limit = Duration::from_millis(arguments.timeout);
    let mut results = Vec::new();
    let take = |left: u64| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        let result = timeout(limit, request(&arguments, &mut sender)).await;
        let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if result.is_err() || arguments.close {
            sender = None;
        }
        results.push(result);
    }
    results
}

async fn request(arguments: &Arguments, sender: &mut Option<Sender>) -> io::Result<Answered> {
    let start = Instant::now();
    if sender.as_ref().is_none_or(Sender::is_closed) {
        *sender = Some(connect(arguments).await?);
    }
    let Some(sender) = sender else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let request = arguments.request()?;
    let response = match sender {
        Sender::Http1(sender) => {
            sender.ready().await.map_err(io::Error::other)?;
            sender.send_request(request).await
        }
        Sender::Http2(sender) => sender.send_request(request).await,
    };
    let (head, body) = response.map_err(io::Error::other)?.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let named = head
        .headers
        .get("x-test-server")
        .and_then(|name| name.to_str().ok());
    let named = named.map(str::to_owned).or_else(|| {
        let body: Value = serde_json::from_slice(&body).ok()?;
        body["name"].as_str().map(str::to_owned)
    });
    Ok(Answered {
        status: head.status.as_u16(),
        name: named.unwrap_or_default(),
        took: start.elapsed(),
    })
}

impl Arguments {
    fn request(&self) -> io::Result<Request<Full<Bytes>>> {
        let host = self.host.clone().unwrap_or_else(|| self.to.to_string());
        let uri: Uri = if self.http2 {
            format!("http://{host}{}", self.path).parse()
        } else {
            self.path.parse()
        }
        .map_err(io::Error::other)?;
        let body = Full::new(Bytes::from(vec![b'x'; self.body]));
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        if self.http2 {
            *request.version_mut() = Version::HTTP_2;
        } else {
            let host = host.parse().map_err(io::Error::other)?;
            request.headers_mut().insert(header::HOST, host);
        }
        for field in &self.headers {
            request
                .headers_mut()
                .append(field.name.clone(), field.value.clone());
        }
        Ok(request)
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

async fn connect(arguments: &Arguments) -> io::Result<Sender> {
    if arguments.http2 {
        return Ok(Sender::Http2(connect_http2(arguments.to).await?));
    }
    let stream = TcpStream::connect(arguments.to).await?;
    stream.set_nodelay(true)?;
    let connecting = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = connecting.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

async fn connect_http2(to: SocketAddr) -> io::Result<http2::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connecting.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

fn summary(results: Vec<io::Result<Answered>>, elapsed: Duration) -> Value {
    let (mut tally, mut latencies, mut sequence) = (Tally::default(), Vec::new(), Vec::new());
    let (mut by_status, mut by_name) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
    let total = results.len() as u64;
    for result in results {
        tally.add(result.map(|answered| {
            *by_status.entry(answered.status.to_string()).or_default() += 1;
            *by_name.entry(answered.name.clone()).or_default() += 1;
            latencies.push(answered.took);
            sequence.push(answered.name);
        }));
    }
    latencies.sort_unstable();
    let quantile = |share: f64| {
        let index = (latencies.len().saturating_sub(1) as f64 * share) as usize;
        latencies
            .get(index)
            .map(|latency| latency.as_secs_f64() * 1e6)
    };
    json!({
        "tally": tally,
        "by_status": by_status,
        "by_name": by_name,
        "sequence": (total <= SEQUENCE).then_some(sequence),
        "latency_us_p50": quantile(0.5),
        "latency_us_p99": quantile(0.99),
        "seconds": elapsed.as_secs_f64(),
    })
}
