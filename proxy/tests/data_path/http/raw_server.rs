//! Servers and clients of HTTP/1 that are told every byte.

use std::sync::{Arc, Mutex};

use super::*;

/// A server that answers each head with the same bytes, and keeps what arrives.
pub(super) struct RawServer {
    pub(super) address: SocketAddr,
    arrived: Arc<Mutex<Vec<Connection>>>,
}

/// What arrived on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub(super) text: String,
    /// The client's side has ended, in whichever way.
    pub(super) has_ended: bool,
}

impl RawServer {
    pub(super) async fn start(pod: &Pod, answer: impl Into<String>) -> Self {
        let arrived = Arc::<Mutex<Vec<Connection>>>::default();
        let (of_server, answer) = (Arc::clone(&arrived), Arc::new(answer.into()));
        let address = super::super::application(pod, move |stream| {
            answer_heads(stream, Arc::clone(&answer), Arc::clone(&of_server))
        })
        .await;
        Self { address, arrived }
    }

    pub(super) fn connections(&self) -> Vec<Connection> {
        self.arrived.lock().unwrap().clone()
    }

    /// What arrived on the connection with that number, the first being 0.
    pub(super) fn text(&self, number: usize) -> String {
        let connections = self.arrived.lock().unwrap();
        let connection = connections.get(number);
        connection.map(|one| one.text.clone()).unwrap_or_default()
    }
}

async fn answer_heads(
    mut stream: TcpStream,
    answer: Arc<String>,
    arrived: Arc<Mutex<Vec<Connection>>>,
) {
    let number = {
        let mut arrived = arrived.lock().unwrap();
        arrived.push(Connection::default());
        arrived.len() - 1
    };
    let (mut bytes, mut answered) = (vec![0; 64 * 1024], 0);
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        let heads = {
            let connection = &mut arrived.lock().unwrap()[number];
            connection.text += &String::from_utf8_lossy(&bytes[..read]);
            connection.text.matches("\r\n\r\n").count()
        };
        while answered < heads {
            answered += 1;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
    arrived.lock().unwrap()[number].has_ended = true;
    // The side that answers stays open, as it does in a server that is busy.
    std::future::pending::<()>().await;
}

/// A client on `node-1` and a raw server on `node`, with a service that declares HTTP.
pub(super) async fn raw(
    bed: &mut Bed,
    node: &'static str,
    answer: impl Into<String>,
) -> (Pod, Pod, RawServer, SocketAddr) {
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let raw = RawServer::start(&server, answer).await;
    let endpoints = [(raw.address.ip(), Some(&server))];
    let address = bed.service_that_declares("http", "web", raw.address.port(), &endpoints);
    (client, server, raw, address)
}

/// Sends bytes on a connection of its own, and reads until the answer ends with `end`.
pub(super) async fn talk(
    pod: &Pod,
    to: SocketAddr,
    bytes: impl AsRef<[u8]>,
    end: &str,
) -> (String, TcpStream) {
    let mut stream = pod.connect(to).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let answer = read_until(&mut stream, end).await;
    (answer, stream)
}

/// Reads until what was read ends with `end`, or the connection does.
pub(super) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    let reading = async {
        let mut bytes = vec![0; 64 * 1024];
        while !answer.ends_with(end.as_bytes()) {
            match stream.read(&mut bytes).await {
                Ok(read @ 1..) => answer.extend_from_slice(&bytes[..read]),
                _ => break,
            }
        }
    };
    let read = tokio::time::timeout(DEADLINE, reading).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    read.unwrap_or_else(|_| panic!("no answer in time: {answer}"));
    answer
}

pub(super) const NODES: [&str; 2] = ["node-1", "node-2"];
pub(super) const REQUEST: &str = "GET /slow HTTP/1.1\r\nHost: web\r\n\r\n";
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A client on `node-1`, an application on `node`, and a service that declares HTTP.
pub(super) async fn declared<F>(
    bed: &mut Bed,
    node: &'static str,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (Pod, Pod, SocketAddr)
where
    F: Future<Output = ()> + Send + 'static,
{
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let application = super::super::application(&server, serve).await;
    let endpoints = [(application.ip(), Some(&server))];
    let address = bed.service_that_declares("http", "web", application.port(), &endpoints);
    (client, server, address)
}
