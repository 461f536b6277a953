//! Listeners, and a connection's one request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::clients::{Activity, Clients, Limits, Place};
use crate::deadline::DeadlineStream;
use crate::pages::{Answer, Content, OPEN_METRICS, Pages};
use crate::text::{Text, Turns};

/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may read nothing of the response.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take from its beginning to its end.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest request head in bytes.
const HEADER_BYTES: usize = 16 * 1024;
/// Threads for pages that are long, idle ones end.
const MOST_THREADS: usize = 512;

/// Pages, where they are served, and to how many clients at a time.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    pages: Pages,
    limits: Limits,
}

impl Endpoint {
    /// These pages on that listener.
    pub fn new(listener: TcpListener, pages: Pages, limits: Limits) -> Self {
        Self {
            listener,
            pages,
            limits,
        }
    }
}

/// Times that clients have.
#[derive(Clone, Copy, Debug)]
struct Patience {
    header: Duration,
    read: Duration,
    connection: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            header: HEADER_TIMEOUT,
            read: READ_PATIENCE,
            connection: CONNECTION_TIMEOUT,
        }
    }
}

/// Serves pages in this task until it is dropped.
pub async fn serve(endpoint: Endpoint) {
    run(endpoint, Turns::default(), Patience::default()).await;
}

/// Serves pages on a thread of its own until the process ends, so that whoever asks for
/// them takes no time from the runtime that calls this.
///
/// # Errors
/// When the operating system gives no thread.
pub fn serve_apart(endpoints: Vec<Endpoint>) -> io::Result<()> {
    serve_apart_until(endpoints, std::future::pending()).map(drop)
}

/// Serves pages on a thread of its own until `end`; their addresses are free once the thread has
/// ended.
///
/// # Errors
/// When the operating system gives no thread.
pub fn serve_apart_until(
    endpoints: Vec<Endpoint>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_THREADS)
        .build()?;
    let listeners = endpoints.into_iter().map(|endpoint| {
        let listener = endpoint.listener.into_std()?;
        Ok((listener, endpoint.pages, endpoint.limits))
    });
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    let turns = Turns::default();
    let serve = async move {
        let mut served = tokio::task::JoinSet::new();
        for (listener, pages, limits) in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let endpoint = Endpoint::new(listener, pages, limits);
                    served.spawn(run(endpoint, turns.clone(), Patience::default()));
                }
                Err(error) => tracing::error!(%error, "a page can't be served"),
            }
        }
        let all = async { while served.join_next().await.is_some() {} };
        tokio::select! {
            () = end => {}
            () = all => {}
        }
    };
    let thread = thread::Builder::new().name("weft-admin".to_owned());
    thread.spawn(move || {
        runtime.block_on(serve);
        // With the tasks go the listeners; nobody waits for a page that is long.
        runtime.shutdown_background();
    })
}

async fn run(endpoint: Endpoint, turns: Turns, patience: Patience) {
    let clients = Arc::new(Mutex::new(Clients::new(endpoint.limits)));
    loop {
        let Ok((stream, from)) = endpoint.listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let place = admit(&clients, from);
        let id = place.id;
        let leaving = Leaving {
            clients: Arc::clone(&clients),
            id,
        };
        let stream = DeadlineStream::new(stream, place.activity.clone(), patience.read);
        let (pages, turns) = (endpoint.pages.clone(), turns.clone());
        let served = tokio::spawn(async move {
            let _leaving = leaving;
            serve_one(stream, place.activity, pages, turns, patience).await;
        });
        lock(&clients).set_cut(id, served.abort_handle());
    }
}

type SharedClients = Arc<Mutex<Clients<AbortHandle>>>;

/// A place for one more connection. The one that had it is ended.
fn admit(clients: &SharedClients, from: SocketAddr) -> Place {
    let (place, cut) = lock(clients).admit(from.ip().to_canonical());
    if let Some(cut) = cut {
        cut.abort();
    }
    place
}

fn lock(clients: &SharedClients) -> MutexGuard<'_, Clients<AbortHandle>> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives up a connection's place when it is over.
struct Leaving {
    clients: SharedClients,
    id: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        lock(&self.clients).leave(self.id);
    }
}

/// Answers the one request of a connection: whoever wants more connects again, and nobody
/// keeps a place for nothing.
async fn serve_one(
    stream: DeadlineStream,
    activity: Activity,
    pages: Pages,
    turns: Turns,
    patience: Patience,
) {
    let service = service_fn(|request: Request<Incoming>| {
        activity.note_request();
        let (pages, turns) = (&pages, &turns);
        async move {
            let (method, uri) = (request.method(), request.uri());
            Ok::<_, Infallible>(respond(pages, turns, method, uri).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.header)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(patience.connection, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin client"),
        Err(_) => tracing::debug!("admin client took too long"),
    }
}

async fn respond(pages: &Pages, turns: &Turns, method: &Method, uri: &Uri) -> Response<Text> {
    let content = match pages.find(method, uri.path()) {
        Ok(content) => content,
        Err(refusal) => return response(refusal),
    };
    match content {
        Content::Short(show) | Content::Action(show) => response(show()),
        Content::Long(show) => on_thread(turns, move || show()).await,
        Content::Asked(show) => {
            let query = uri.query().unwrap_or_default().to_owned();
            on_thread(turns, move || show(&query)).await
        }
        Content::Metrics(write) => {
            let text = match *method == Method::HEAD {
                true => Text::Whole(None),
                false => Text::written(write, turns),
            };
            with_kind(Response::new(text), OPEN_METRICS)
        }
    }
}

async fn on_thread(
    turns: &Turns,
    show: impl FnOnce() -> Answer + Send + 'static,
) -> Response<Text> {
    let (turns, runtime) = (turns.clone(), Handle::current());
    let shown = tokio::task::spawn_blocking(move || {
        let _turn = turns.wait(&runtime);
        show()
    });
    response(shown.await.unwrap_or_else(|error| {
        Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
    }))
}

fn response(answer: Answer) -> Response<Text> {
    let mut response = Response::new(Text::from(answer.body));
    *response.status_mut() = answer.status;
    with_kind(response, answer.kind)
}

fn with_kind(mut response: Response<Text>, kind: &'static str) -> Response<Text> {
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
