//! HTTP/1 as old and odd clients and servers speak it, byte by byte, near and far: what either
//! end sees is what it would see without a mesh.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use weft_model::route::filter::Redirect;

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

const NODES: [&str; 2] = ["node-1", "node-2"];
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_body_follows_its_head_whatever_upgrade_is_asked_for_and_however_early_the_answer() {
    for node in NODES {
        for upgrade in ["tcp", "h2c", "TLS/1.2", "websocket"] {
            let mut bed = Bed::new();
            let refusal = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
            let (client, _server, raw, address) = raw(&mut bed, node, refusal).await;
            let head = format!(
                "POST /one HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 5\r\n\r\n"
            );
            let mut stream = client.connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            // The answer comes before the body is sent.
            let answer = read_until(&mut stream, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{upgrade}: {answer}");
            let _ = stream.write_all(b"AAAAA").await;
            drop(stream);
            let second = "GET /two HTTP/1.1\r\nHost: web\r\n\r\n";
            let (answer, _stream) = talk(&client, address, second, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{upgrade}: {answer}");
            for connection in raw.connections() {
                let text = connection.text;
                assert!(!text.contains("AAMAAABk"), "{upgrade}: {text}");
                let Some((_, behind)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                if text.starts_with("POST") {
                    assert!(
                        "AAAAA".starts_with(&behind[..behind.len().min(5)]),
                        "{text}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn names_of_fields_keep_their_letters_both_ways() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-MyThing: 1\r\n\r\nok";
        let (client, _server, raw, address) = raw(&mut bed, node, answer).await;
        let request = "GET / HTTP/1.1\r\nHost: web\r\nX-CamelCase: 1\r\nsoapACTION: 2\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 Fine\r\n"), "{answer}");
        assert!(answer.contains("\r\nX-MyThing: 1\r\n"), "{answer}");
        assert!(answer.contains("\r\nContent-Length: 2\r\n"), "{answer}");
        let arrived = raw.text(0);
        for field in ["Host: web", "X-CamelCase: 1", "soapACTION: 2"] {
            assert!(arrived.contains(&format!("\r\n{field}\r\n")), "{arrived}");
        }
    }
}

#[tokio::test]
async fn a_url_for_a_forward_proxy_arrives_as_it_was_sent_and_wins_over_host() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, node, OK).await;
        let request = "GET http://example.test/x?y=z HTTP/1.1\r\nHost: web\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let arrived = raw.text(0);
        assert!(
            arrived.starts_with("GET http://example.test/x?y=z HTTP/1.1\r\n"),
            "{arrived}"
        );
        assert!(arrived.contains("\r\nHost: example.test\r\n"), "{arrived}");
    }
}

#[tokio::test]
async fn a_tunnel_that_is_granted_with_a_length_has_no_body() {
    for node in NODES {
        let mut bed = Bed::new();
        let granted = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        let (client, _server, raw, address) = raw(&mut bed, node, granted).await;
        let request = "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n";
        let (answer, mut stream) = talk(&client, address, request, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            !answer.to_ascii_lowercase().contains("content-length"),
            "{answer}"
        );
        stream.write_all(b"hello\r\n\r\n").await.unwrap();
        // The bytes of the other protocol arrive, and those of the server come back.
        assert_eq!(read_until(&mut stream, granted).await, granted);
        assert!(raw.text(0).ends_with("hello\r\n\r\n"), "{}", raw.text(0));
    }
}

#[tokio::test]
async fn long_urls_and_large_heads_pass_as_without_a_proxy() {
    for node in NODES {
        let mut bed = Bed::new();
        let cookies = "Set-Cookie: a=b\r\n".repeat(300);
        let large = format!("X-Large: {}\r\n", "a".repeat(7 * 1024)).repeat(10);
        let answer = format!("HTTP/1.1 200 OK\r\n{cookies}{large}Content-Length: 2\r\n\r\nok");
        let (client, _server, raw, address) = raw(&mut bed, node, answer).await;
        let fields = format!("X: {}\r\n", "b".repeat(8 * 1024)).repeat(9);
        for (number, request) in [
            format!("GET /?{} HTTP/1.1\r\nHost: web\r\n\r\n", "a".repeat(60_000)),
            format!("GET / HTTP/1.1\r\nHost: web\r\n{fields}\r\n"),
            format!(
                "GET / HTTP/1.1\r\nHost: web\r\n{}\r\n",
                "y: z\r\n".repeat(900)
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let (answer, _stream) = talk(&client, address, &request, "ok").await;
            assert!(
                answer.starts_with("HTTP/1.1 200 "),
                "{number}: {}",
                &answer[..99]
            );
            assert_eq!(answer.matches("Set-Cookie: a=b\r\n").count(), 300);
            assert_eq!(answer.matches("\r\nX-Large: aaa").count(), 10);
        }
        let arrived: usize = raw.connections().iter().map(|one| one.text.len()).sum();
        assert!(arrived > 60_000 + 9 * 8192 + 900 * 6, "{arrived}");
    }
}

#[tokio::test]
async fn a_response_with_a_larger_head_than_is_read_is_said_to_have_one() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(140_000));
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let request = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "reads\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(
            answer.contains("x-weft-reason: RESPONSE_TOO_LARGE"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_answer_to_http_1_0_without_a_length_ends_with_its_connection_and_says_so() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let request = "GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "never").await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(!answer.contains("keep-alive"), "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_on_a_port_that_is_declared_as_http() {
    for node in NODES {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let greeting = super::super::application(&server, async |mut stream: TcpStream| {
            stream.write_all(b"220 ready\r\n").await.unwrap();
            echo(stream).await;
        })
        .await;
        let endpoints = [(greeting.ip(), Some(&server))];
        let address = bed.service_that_declares("http", "mail", greeting.port(), &endpoints);
        let mut stream = client.connect(address).await.unwrap();
        assert_eq!(read_until(&mut stream, "\r\n").await, "220 ready\r\n");
        assert_eq!(exchange(&mut stream, "helo me\r\n").await, "helo me\r\n");
    }
}

#[tokio::test]
async fn settings_of_http2_ahead_of_a_silent_client_are_no_greeting() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-1", "server"));
    // Its first connection is that of the silent client.
    let web = web(&server, text("hello")).await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let address = bed.service_that_declares("http2", "web", web.address.port(), &endpoints);
    let settings = super::super::application(&server, async |mut stream: TcpStream| {
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let early = [(settings.ip(), Some(&server))];
    let silent = bed.service_that_declares("http2", "early", settings.port(), &early);
    let mut stream = client.connect(silent).await.unwrap();
    wait_until("a connection for the silent client", || {
        server.sockets.shown.lock().unwrap().len() == 1
    })
    .await;
    let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    // A request for HTTP/2: it is answered for, and not carried as it is.
    wait_until("a request's own connection", || {
        server.sockets.shown.lock().unwrap().len() == 2
    })
    .await;
    let (answer, _stream) = talk(&client, address, request, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A client on `node-1`, an application on `node`, and a service that declares HTTP.
async fn declared<F>(
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

const REQUEST: &str = "GET /slow HTTP/1.1\r\nHost: web\r\n\r\n";

#[tokio::test]
async fn a_client_that_gives_up_is_seen_by_its_server_at_once() {
    for node in NODES {
        for begun in [
            "",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        ] {
            for is_reset in [false, true] {
                let mut bed = Bed::new();
                let (client, _server, raw, address) = raw(&mut bed, node, begun).await;
                let mut stream = client.connect(address).await.unwrap();
                stream.write_all(REQUEST.as_bytes()).await.unwrap();
                wait_until("a request", || raw.text(0).ends_with("\r\n\r\n")).await;
                if !begun.is_empty() {
                    read_until(&mut stream, "a\r\n").await;
                }
                if is_reset {
                    stream.set_zero_linger().unwrap();
                }
                drop(stream);
                wait_until("the server to see it", || raw.connections()[0].has_ended).await;
            }
        }
    }
}

#[tokio::test]
async fn a_request_whose_client_gave_up_is_recorded_as_such_and_not_sent_again() {
    for node in NODES {
        for is_reset in [false, true] {
            let mut bed = Bed::new();
            let requests = Arc::<AtomicUsize>::default();
            let seen = Arc::clone(&requests);
            // As most servers do: they end with their client.
            let ends_with_client = move |mut stream: TcpStream| {
                let seen = Arc::clone(&seen);
                async move {
                    while let Ok(1..) = stream.read(&mut [0; 1024]).await {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            let (client, _server, address) = declared(&mut bed, node, ends_with_client).await;
            let mut stream = client.connect(address).await.unwrap();
            stream.write_all(REQUEST.as_bytes()).await.unwrap();
            wait_until("a request", || requests.load(Ordering::Relaxed) == 1).await;
            if is_reset {
                stream.set_zero_linger().unwrap();
            }
            drop(stream);
            for (reporting, reporter) in [("node-1", "source"), (node, "destination")] {
                let reporter = format!("reporter=\"{reporter}\"");
                let flag = "response_flags=\"DOWNSTREAM_RESET\"";
                let parts = ["istio_requests_total{", &reporter, flag, "} 1"];
                bed.counts(reporting, &parts).await;
            }
            assert_eq!(requests.load(Ordering::Relaxed), 1);
        }
    }
}

#[tokio::test]
async fn a_client_that_only_ends_its_side_gets_its_answer() {
    for node in NODES {
        for head in [
            "GET / HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
        ] {
            let mut bed = Bed::new();
            let (client, _server, address) = declared(&mut bed, node, async |mut stream| {
                let mut request = String::new();
                // It reads to the end before it answers.
                stream.read_to_string(&mut request).await.unwrap();
                let has_body = request.contains("hello");
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{has_body:<5}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            })
            .await;
            let mut stream = client.connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = read_until(&mut stream, "never").await;
            let body = format!("{:<5}", head.contains("hello"));
            assert!(
                answer.contains(" 200 ") && answer.ends_with(&body),
                "{head}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn the_end_of_a_client_ends_no_request_of_another_one() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, node, OK).await;
        // The same connection to the server is used by one client after the other.
        for _ in 0..20 {
            let (answer, mut stream) = talk(&client, address, REQUEST, "ok").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            stream.shutdown().await.unwrap();
            assert_eq!(read_until(&mut stream, "never").await, "");
        }
        assert_eq!(raw.connections().len(), 1);
    }
}

/// A server that says in each answer which of its connections the request came on, and asks
/// for a login where the request has none.
async fn numbered(bed: &mut Bed, node: &'static str) -> (Pod, Pod, SocketAddr) {
    let connections = Arc::<AtomicUsize>::default();
    declared(bed, node, move |mut stream| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                let request = String::from_utf8_lossy(&bytes[..read]);
                let status = match request.contains("/challenge") {
                    true => "401 Unauthorized\r\nWWW-Authenticate: NTLM",
                    false => "200 OK",
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\n{number:04}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await
}

/// Sends a request on a client's connection; the server's connection that it came on.
async fn number_of(stream: &mut TcpStream, path: &str, fields: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(stream).await;
    assert!(head.contains("Content-Length: 4\r\n"), "{head}");
    let mut number = [0; 4];
    stream.read_exact(&mut number).await.unwrap();
    String::from_utf8(number.to_vec()).unwrap()
}

#[tokio::test]
async fn a_connection_that_has_logged_in_is_nobody_elses() {
    for node in NODES {
        for (first_path, fields) in [
            ("/", "Authorization: NTLM TlRMTVNTUAAB\r\n"),
            ("/", "Authorization: Negotiate YII\r\n"),
            ("/challenge", ""),
        ] {
            let mut bed = Bed::new();
            let (client, _server, address) = numbered(&mut bed, node).await;
            let (mut one, mut other) = (
                client.connect(address).await.unwrap(),
                client.connect(address).await.unwrap(),
            );
            let of_one = number_of(&mut one, first_path, fields).await;
            let of_other = number_of(&mut other, first_path, fields).await;
            assert_ne!(of_one, of_other);
            for _ in 0..10 {
                assert_eq!(number_of(&mut one, "/", "").await, of_one);
                assert_eq!(number_of(&mut other, "/", "").await, of_other);
            }
            // Nor later.
            drop((one, other));
            let mut third = client.connect(address).await.unwrap();
            let of_third = number_of(&mut third, "/", "").await;
            assert!(![&of_one, &of_other].contains(&&of_third), "{of_third}");
        }
    }
}

/// A server that answers heads without reading what follows them.
async fn refusing(
    bed: &mut Bed,
    node: &'static str,
    answer: &'static str,
) -> (Pod, Pod, SocketAddr) {
    declared(bed, node, move |mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const EXPECTING: &str = "PUT /file HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\n\
                         Content-Length: 5\r\n\r\n";

#[tokio::test]
async fn a_server_that_refuses_a_body_is_heard_before_it_is_sent() {
    for node in NODES {
        for status in ["401 No", "417 No", "413 No"] {
            let mut bed = Bed::new();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
            let answer: &'static str = answer.leak();
            let (client, _server, address) = refusing(&mut bed, node, answer).await;
            let (answer, mut stream) = talk(&client, address, EXPECTING, "no").await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{answer}"
            );
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(read_until(&mut stream, "never").await, "");
        }
    }
}

#[tokio::test]
async fn a_body_is_sent_once_its_server_has_asked_for_it_or_unasked() {
    for node in NODES {
        for asks in [true, false] {
            let mut bed = Bed::new();
            let server = move |mut stream: TcpStream| async move {
                loop {
                    read_head(&mut stream).await;
                    if asks {
                        let _ = stream.write_all(CONTINUE.as_bytes()).await;
                    }
                    let mut body = [0; 5];
                    stream.read_exact(&mut body).await.unwrap();
                    assert_eq!(&body, b"hello");
                    let _ = stream.write_all(OK.as_bytes()).await;
                }
            };
            let (client, _server, address) = declared(&mut bed, node, server).await;
            let mut stream = client.connect(address).await.unwrap();
            for _ in 0..3 {
                stream.write_all(EXPECTING.as_bytes()).await.unwrap();
                if asks {
                    let interim = read_until(&mut stream, "\r\n\r\n").await;
                    assert_eq!(interim, CONTINUE);
                }
                stream.write_all(b"hello").await.unwrap();
                let answer = read_until(&mut stream, "ok").await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                // In one piece, as some clients send it.
                let whole = format!("{EXPECTING}hello");
                stream.write_all(whole.as_bytes()).await.unwrap();
                let answer = read_until(&mut stream, "ok").await;
                assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_gives_up_while_it_waits_with_its_body_is_seen() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, node, "").await;
        let mut stream = client.connect(address).await.unwrap();
        stream.write_all(EXPECTING.as_bytes()).await.unwrap();
        wait_until("a request", || raw.text(0).ends_with("\r\n\r\n")).await;
        drop(stream);
        wait_until("the server to see it", || raw.connections()[0].has_ended).await;
    }
}

#[tokio::test]
async fn early_hints_are_passed_on() {
    for node in NODES {
        let mut bed = Bed::new();
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
        let answer = format!("{hints}{hints}{OK}");
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let (answer, mut stream) = talk(&client, address, REQUEST, "ok").await;
        assert!(
            answer.starts_with(&format!("{hints}{hints}HTTP/1.1 200 ")),
            "{answer}"
        );
        // The next one has them before its own.
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "ok").await;
        assert!(
            answer.starts_with(&format!("{hints}{hints}HTTP/1.1 200 ")),
            "{answer}"
        );
        // HTTP/1.0 knows none.
        let old = "GET / HTTP/1.0\r\nHost: web\r\n\r\n";
        let (answer, _stream) = talk(&client, address, old, "ok").await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_ahead_of_a_large_body_reaches_a_client_that_sends_on() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, address) = declared(&mut bed, node, async |mut stream| {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
            let _ = stream.write_all(answer).await;
            // It closes in order, with a body on its way.
            let _ = stream.shutdown().await;
            while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
        })
        .await;
        let mut stream = client.connect(address).await.unwrap();
        let head = "PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 8388608\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Like many it looks for its answer when everything is sent.
        stream
            .write_all(&vec![b'a'; 8 * 1024 * 1024])
            .await
            .unwrap();
        let answer = read_until(&mut stream, "no").await;
        assert!(answer.starts_with("HTTP/1.1 413 No\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn what_has_no_body_keeps_what_is_said_of_one() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"a\"\r\n\r\n";
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let mut stream = client.connect(address).await.unwrap();
        for method in ["GET", "HEAD", "GET"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: web\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
            assert!(head.contains("\r\nETag: \"a\"\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn an_old_client_is_served_by_a_backend_of_http2() {
    for node in NODES {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let web = web(&server, text("hello")).await;
        let endpoints = [(web.address.ip(), Some(&server))];
        let address = bed.service_that_declares("http2", "web", web.address.port(), &endpoints);
        let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let (answer, mut stream) = talk(&client, address, request, "hello").await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert_eq!(web.last().version(), Version::HTTP_2);
        // What is said of the connection holds.
        if answer.contains("keep-alive") {
            stream.write_all(request.as_bytes()).await.unwrap();
            assert!(read_until(&mut stream, "hello").await.ends_with("hello"));
        } else {
            assert_eq!(read_until(&mut stream, "never").await, "");
        }
    }
}

#[tokio::test]
async fn a_rule_for_a_path_is_not_walked_around() {
    let mut bed = Bed::new();
    let (client, _server, raw, address) = raw(&mut bed, "node-2", OK).await;
    let redirect = Filter::Redirect(Redirect {
        scheme: None,
        hostname: Some("elsewhere".into()),
        path: None,
        port: None,
        status: StatusCode::FOUND,
    });
    let mut admin = below("/admin", rule(Vec::new()));
    admin.filters = vec![redirect];
    let rules = vec![admin, rule(vec![backend("web", 1)])];
    route(&bed, RouteKind::Http, "web", rules);
    for (line, status) in [
        ("GET /admin/x", "302"),
        ("GET /x/../admin/x", "302"),
        ("GET //admin/x", "302"),
        ("GET /./admin/x", "302"),
        ("GET /%61dmin/x", "302"),
        ("GET /x/%2e%2e/admin/x", "302"),
        ("\r\nGET /admin/x", "302"),
        ("GET  /admin/x", "400"),
        (" GET /admin/x", "400"),
        ("GET /x/%61?y=/../admin", "200"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
        let (answer, _stream) = talk(&client, address, request, "never").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line:?}: {answer}"
        );
    }
    // What is passed on is passed on as it came.
    assert!(
        raw.text(0)
            .starts_with("GET /x/%61?y=/../admin HTTP/1.1\r\n")
    );
    assert_eq!(raw.connections().len(), 1);
}

#[tokio::test]
async fn trailers_that_are_announced_are_passed_on_both_ways() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                      2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
        let (client, _server, raw, address) = raw(&mut bed, node, answer).await;
        let request = "POST / HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nConnection: TE\r\n\
                       Transfer-Encoding: chunked\r\nTrailer: X-Part\r\n\r\n\
                       5\r\nhello\r\n0\r\nX-Part: 3\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "7\r\n\r\n").await;
        assert!(
            answer
                .to_ascii_lowercase()
                .ends_with("0\r\nx-sum: 7\r\n\r\n"),
            "{answer}"
        );
        wait_until("the trailer", || {
            raw.text(0)
                .to_ascii_lowercase()
                .ends_with("0\r\nx-part: 3\r\n\r\n")
        })
        .await;
    }
}
