//! Uploads whose answer is there before they are: they go on as long as both ends do, whatever a
//! server says of its connection, and whether it ends its side of it.

use tokio::sync::mpsc;

use super::raw_server::{NODES, read_until};
use super::*;

/// More than all buffers on the way hold.
const LENGTH: usize = 16 << 20;

/// A server that answers a head, and then says how much came behind it until the client ended.
async fn answers_and_reads_on(
    mut stream: TcpStream,
    (fields, ends): (&str, bool),
    told: mpsc::UnboundedSender<usize>,
) {
    read_head(&mut stream).await;
    let answer = format!("HTTP/1.1 413 No\r\nContent-Length: 2\r\n{fields}\r\nno");
    stream.write_all(answer.as_bytes()).await.unwrap();
    if ends {
        stream.shutdown().await.unwrap();
    }
    let (mut length, mut bytes) = (0, vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        length += read;
    }
    let _ = told.send(length);
}

/// Its client: sends a head, reads the answer, to the server's end if `ends`, and sends the body.
async fn upload(client: &Pod, to: SocketAddr, ends: bool) {
    let head = format!("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: {LENGTH}\r\n\r\n");
    let mut stream = client.connect(to).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "no").await;
    assert!(answer.starts_with("HTTP/1.1 413 No\r\n"), "{answer}");
    if ends {
        let end = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1])).await;
        assert_eq!(end.unwrap().unwrap(), 0);
    }
    stream.write_all(&vec![b'a'; LENGTH]).await.unwrap();
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn an_upload_goes_on_behind_its_answer_as_long_as_both_ends_do() {
    const CLOSE: &str = "Connection: close\r\n";
    for node in NODES {
        for ending in [("", false), (CLOSE, false), (CLOSE, true), ("", true)] {
            let mut bed = Bed::new();
            bed.node(node);
            let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
            let (told, mut heard) = mpsc::unbounded_channel();
            let serve = move |stream| answers_and_reads_on(stream, ending, told.clone());
            let application = super::super::application(&server, serve).await;
            let endpoints = [(application.ip(), Some(&server))];
            let port = application.port();
            let service = bed.service_that_declares("http", "web", port, &endpoints);
            for to in [service, application] {
                upload(&client, to, ending.1).await;
                let length = tokio::time::timeout(DEADLINE, heard.recv()).await;
                assert_eq!(length.unwrap(), Some(LENGTH), "{node}, {ending:?}, {to}");
            }
        }
    }
}
