//! Requests that two servers may read differently, as raw bytes through real proxies:
//! no part of any reaches a server.

use super::*;

/// A request that is not to be seen by anybody.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: web\r\n\r\n";

fn with(fields: &str) -> String {
    format!("POST /hidden HTTP/1.1\r\nhost: web\r\n{fields}\r\n")
}

/// Each with the status that it is answered with.
fn shapes() -> Vec<(String, u16)> {
    let mut shapes = heads();
    shapes.extend(bodies());
    shapes.extend([
        (
            format!("GET /{} HTTP/1.1\r\nhost: web\r\n\r\n", "a".repeat(70_000)),
            414,
        ),
        (with(&format!("name: {}\r\n", "a".repeat(140_000))), 431),
        (with(&"name:\r\n".repeat(1001)), 431),
    ]);
    shapes
}

/// Requests of which it isn't clear whom they are for, or what they say.
fn heads() -> Vec<(String, u16)> {
    let heads = [
        with("name: a\0b\r\n"),
        with("host: other\r\n"),
        "GET /hidden HTTP/1.1\r\n\r\n".to_owned(),
        "GET /hidden HTTP/1.1 \r\nhost: web\r\n\r\n".to_owned(),
        "GET /hidden HTTP/1.1\r\nhost: web:80:81\r\n\r\n".to_owned(),
    ];
    heads.map(|head| (head, 400)).into()
}

/// Requests of which it isn't clear where they end.
fn bodies() -> Vec<(String, u16)> {
    let smuggled = SMUGGLED;
    let chunked = with("transfer-encoding: chunked\r\n");
    vec![
        (
            with("content-length: 5\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n" + smuggled,
            400,
        ),
        (
            with("content-length: 0\r\ncontent-length: 40\r\n") + smuggled,
            400,
        ),
        (with("content-length: 0, 40\r\n") + smuggled, 400),
        (with("content-length: +5\r\n"), 400),
        (with("transfer-encoding: xchunked\r\n") + smuggled, 400),
        (
            with("transfer-encoding: gzip, chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        (with("transfer-encoding : chunked\r\n") + "0\r\n\r\n", 400),
        (
            with("name: a\r\n transfer-encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        (
            with("name: a\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        (
            with("name: a\rtransfer-encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        (
            "POST /hidden HTTP/1.0\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            400,
        ),
        (format!("{chunked}10000000000000000\r\n"), 400),
        (
            format!("{chunked}1;a=\"\r\nb\r\n0\r\n\r\n{smuggled}\"\r\n"),
            400,
        ),
        (with("content_length: 40\r\n") + smuggled, 400),
        (
            format!("{chunked}0\r\ncontent-length: 5\r\n\r\n{smuggled}"),
            400,
        ),
    ]
}

/// Everything that comes back until the proxy closes.
async fn answers(pod: &Pod, to: SocketAddr, bytes: &str) -> String {
    let mut stream = pod.connect(to).await.unwrap();
    // It may be closed before the last byte is written.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answers = Vec::new();
    let reading = stream.read_to_end(&mut answers);
    let read = tokio::time::timeout(DEADLINE, reading).await;
    let _ = read.expect("not closed in time");
    String::from_utf8(answers).unwrap()
}

async fn routed(bed: &mut Bed) -> (Pod, Pod, WebServer, SocketAddr) {
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let web = web(&server, text("server")).await;
    let address = service(bed, "web", &web, &server);
    let rules = vec![rule(vec![backend("web", 1)])];
    route(bed, RouteKind::Http, "web", rules);
    (client, server, web, address)
}

#[tokio::test]
async fn what_two_servers_may_read_differently_reaches_none() {
    let mut bed = Bed::new();
    let (client, _server, web, address) = routed(&mut bed).await;
    for (bytes, status) in shapes() {
        let answer = answers(&client, address, &bytes).await;
        let shown = &bytes[..bytes.len().min(200)];
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{shown:?}: {answer}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{shown:?}: {answer}"
        );
        assert_eq!(web.count(), 0, "{shown:?}");
    }
    let mut connection = Client::connect(&client, address).await;
    assert_eq!(connection.get("/").await.body, "server");
}

#[tokio::test]
async fn requests_before_a_refused_one_are_answered() {
    let mut bed = Bed::new();
    let (client, _server, web, address) = routed(&mut bed).await;
    let good = "GET /good HTTP/1.1\r\nhost: web\r\n\r\n";
    let bytes = format!("{good}{good}GET /bad HTTP/1.1\n\r\n{good}");
    let answer = answers(&client, address, &bytes).await;
    let answered = |status: &str| answer.matches(&format!("HTTP/1.1 {status} ")).count();
    assert_eq!((answered("200"), answered("400")), (2, 1), "{answer}");
    assert_eq!(web.count(), 2);
}

#[tokio::test]
async fn a_body_that_turns_out_malformed_ends_its_request() {
    let mut bed = Bed::new();
    let (client, _server, web, address) = routed(&mut bed).await;
    let mut stream = client.connect(address).await.unwrap();
    let head =
        "POST /half HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    wait_until("under way", || web.connections() == 1).await;
    stream.write_all(b"5 \r\nhello\r\n0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(DEADLINE, reading).await;
    let _ = read.expect("not closed in time");
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(web.count(), 0);
}
