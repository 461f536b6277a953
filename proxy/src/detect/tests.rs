use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::detect::client_hello::InvalidClientHello;
use weft_model::detect::protocol::DetectedProtocol;
use weft_model::host::{HostSource, RequestedHost};

use super::*;
use weft_testing::wait::in_time;

use crate::fixtures::tcp_pair;
use crate::memory::MemoryAccount;

const LIMIT: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_millis(30);

async fn pair() -> (TcpStream, PrefixedStream) {
    let (client, accepted) = tcp_pair().await;
    (client, PrefixedStream::new(accepted))
}

/// What a client of TLS says first.
fn hello(name: &'static str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Writes in pieces of that size, one after the other.
async fn write_in_pieces(client: &mut TcpStream, bytes: &[u8], size: usize) {
    for piece in bytes.chunks(size) {
        client.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn assert_unread(mut stream: PrefixedStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    in_time(stream.read_exact(&mut read)).await.unwrap();
    assert_eq!(read, bytes);
}

#[tokio::test]
async fn first_bytes_decide_in_whatever_pieces_they_come_and_stay_unread() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n"[..], DetectedProtocol::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", DetectedProtocol::Http2),
        (b"\x16\x03\x01", DetectedProtocol::Tls),
        (b"hello\n", DetectedProtocol::Opaque),
    ] {
        for size in [1, 5, 1000] {
            let (mut client, mut stream) = pair().await;
            let detecting = read_protocol(&mut stream, None);
            let writing = write_in_pieces(&mut client, bytes, size);
            let (detected, ()) = in_time(async { tokio::join!(detecting, writing) }).await;
            assert_eq!(detected.unwrap(), Some(expected), "{bytes:?} by {size}");
            assert_unread(stream, bytes).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_ends_early_speaks_nothing_known() {
    for (begin, expected) in [("", None), ("GE", Some(DetectedProtocol::Opaque))] {
        let (mut client, mut stream) = pair().await;
        client.write_all(begin.as_bytes()).await.unwrap();
        drop(client);
        let detected = in_time(read_protocol(&mut stream, None)).await;
        assert_eq!(detected.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_silent_client_can_be_listened_to_again() {
    let (mut client, mut stream) = pair().await;
    for begin in ["", "GET / "] {
        client.write_all(begin.as_bytes()).await.unwrap();
        let listening = tokio::time::timeout(SILENCE, read_protocol(&mut stream, None));
        assert!(listening.await.is_err());
    }
    client.write_all(b"HTTP/1.1\r\n").await.unwrap();
    let detected = in_time(read_protocol(&mut stream, None)).await;
    assert_eq!(detected.unwrap(), Some(DetectedProtocol::Http1));
    assert_unread(stream, b"GET / HTTP/1.1\r\n").await;
}

#[tokio::test]
async fn a_hello_in_pieces_is_understood_and_stays_unread() {
    let bytes = hello("shop.example.org");
    for size in [3, 400, 10_000] {
        let (mut client, mut stream) = pair().await;
        let reading = read_client_hello(&mut stream, LIMIT);
        let writing = write_in_pieces(&mut client, &bytes, size);
        let (hello, ()) = in_time(async { tokio::join!(reading, writing) }).await;
        assert_eq!(
            hello.unwrap().server_name.as_deref(),
            Some("shop.example.org")
        );
        assert_unread(stream, &bytes).await;
    }
}

#[tokio::test]
async fn a_client_that_asks_for_an_address_names_nobody() {
    let (mut client, mut stream) = pair().await;
    client.write_all(&hello("192.0.2.1")).await.unwrap();
    let hello = read_client_hello(&mut stream, LIMIT).await.unwrap();
    assert_eq!(hello.server_name, None);
}

#[tokio::test]
async fn what_is_no_hello_is_said_at_once() {
    let (mut client, mut stream) = pair().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let error = read_client_hello(&mut stream, LIMIT).await.unwrap_err();
    let is_expected =
        matches!(&error, DetectError::ClientHello(reason) if *reason == InvalidClientHello::NotTls);
    assert!(is_expected, "{error}");
}

#[tokio::test]
async fn half_a_hello_is_awaited_for_as_long_as_that_and_no_longer_than_its_client() {
    let (mut client, mut stream) = pair().await;
    let bytes = hello("a.example");
    client.write_all(&bytes[..100]).await.unwrap();
    let error = read_client_hello(&mut stream, SILENCE).await.unwrap_err();
    assert!(matches!(error, DetectError::Timeout), "{error}");
    client.shutdown().await.unwrap();
    let error = read_client_hello(&mut stream, LIMIT).await.unwrap_err();
    assert!(matches!(error, DetectError::Ended), "{error}");
    assert_unread(stream, &bytes[..100]).await;
}

#[tokio::test]
async fn the_name_that_is_asked_for_is_told_whatever_protocol_names_it() {
    let by_tls = hello("shop.example.org");
    let by_http = b"GET / HTTP/1.1\r\nHost: Shop.example.org\r\n\r\n";
    for (bytes, source) in [
        (by_tls.as_slice(), HostSource::ServerName),
        (by_http, HostSource::HttpAuthority),
    ] {
        for size in [7, 10_000] {
            let (mut client, mut stream) = pair().await;
            let listening = read_requested_host(&mut stream, LIMIT);
            let writing = write_in_pieces(&mut client, bytes, size);
            let (requested, ()) = in_time(async { tokio::join!(listening, writing) }).await;
            let name = "shop.example.org".into();
            let expected = RequestedHost { source, name };
            assert_eq!(requested.unwrap(), Some(expected));
            assert_unread(stream, bytes).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_names_nobody_goes_on_unnamed() {
    for (bytes, is_over) in [
        (&b"SSH-2.0-x\r\n"[..], false),
        (b"", false),
        (b"GET / HT", true),
    ] {
        let (mut client, mut stream) = pair().await;
        client.write_all(bytes).await.unwrap();
        if is_over {
            client.shutdown().await.unwrap();
        }
        let requested = read_requested_host(&mut stream, SILENCE).await;
        assert_eq!(requested.unwrap(), None);
        assert_unread(stream, bytes).await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_is_not_taken_for_one_that_says_nothing() {
    let (client, mut stream) = pair().await;
    client.set_zero_linger().unwrap();
    drop(client);
    let error = in_time(read_protocol(&mut stream, None)).await.unwrap_err();
    assert!(matches!(error, DetectError::Io(_)), "{error}");
    // Not even by whoever asks again, after the socket has told its error.
    for _ in 0..2 {
        let requested = read_requested_host(&mut stream, LIMIT).await;
        assert!(matches!(requested, Err(DetectError::Io(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn first_bytes_that_do_not_go_on_have_their_time_and_count_until_they_are_taken() {
    let shown = Gauge::default();
    let pod = Arc::new(MemoryAccount::new(1 << 20)).pod(&"pod".into(), shown.clone());
    let (mut client, stream) = pair().await;
    let mut stream = stream.counted_in(&pod);
    let limit = Some(Duration::from_secs(60));
    // A client may be silent before it begins.
    let an_hour =
        tokio::time::timeout(Duration::from_secs(3600), read_protocol(&mut stream, limit));
    assert!(an_hour.await.is_err());
    client.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let began = tokio::time::Instant::now();
    // Whoever listens may look away in between.
    for _ in 0..3 {
        let looking = read_protocol(&mut stream, limit);
        let looked = tokio::time::timeout(Duration::from_secs(15), looking).await;
        assert!(looked.is_err(), "{looked:?}");
    }
    assert_eq!(shown.get(), 14);
    let error = read_protocol(&mut stream, limit).await.unwrap_err();
    assert!(matches!(error, DetectError::HeadTimeout), "{error}");
    assert!(began.elapsed() < Duration::from_secs(62));
    drop(stream.take_first());
    assert_eq!(shown.get(), 0);
}
