use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use weft_testing::wait::in_time;

use crate::fixtures::{tcp_pair, tls_pair, tunnel_pair};

async fn pair() -> (TcpStream, PrefixedStream) {
    let (client, accepted) = tcp_pair().await;
    (client, PrefixedStream::new(accepted))
}

/// Both ends of each kind of stream.
async fn pairs() -> [(Stream, PrefixedStream); 3] {
    let (tcp, accepted_tcp) = tcp_pair().await;
    let (tls, accepted_tls) = tls_pair().await;
    let (tunnel, accepted_tunnel) = tunnel_pair().await;
    [
        (Stream::from(tcp), PrefixedStream::new(accepted_tcp)),
        (tls, PrefixedStream::new(accepted_tls)),
        (Stream::from(tunnel), PrefixedStream::new(accepted_tunnel)),
    ]
}

fn line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Looks that are given up at any time lose nothing and change no order.
    #[test]
    fn bytes_in_any_pieces_are_shown_whole_and_read_first(
        pieces in prop::collection::vec(prop::collection::vec(1u8..10, 0..900), 1..12),
        rest in prop::collection::vec(any::<u8>(), 0..3000),
        patience in prop::collection::vec(0u64..3, 12),
        read_size in 1usize..5000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut stream) = pair().await;
            let first = [pieces.concat(), vec![b'\n']].concat();
            let writing = async {
                for piece in pieces.iter().map(Vec::as_slice).chain([&b"\n"[..], &rest]) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.unwrap();
            };
            let looking = async {
                for milliseconds in patience {
                    let looking = stream.read_until(usize::MAX, line);
                    let _ = tokio::time::timeout(Duration::from_millis(milliseconds), looking).await;
                }
                assert_eq!(stream.read_until(usize::MAX, line).await.unwrap(), Some(first.len() - 1));
                assert!(stream.prefix().starts_with(&first));
                let (mut all, mut buffer) = (Vec::new(), vec![0; read_size]);
                loop {
                    match stream.read(&mut buffer).await.unwrap() {
                        0 => return all,
                        count => all.extend_from_slice(&buffer[..count]),
                    }
                }
            };
            let ((), all) = in_time(async { tokio::join!(writing, looking) }).await;
            assert_eq!(all, [first.clone(), rest.clone()].concat());
        });
    }
}

#[tokio::test]
async fn no_more_is_read_than_may_be_looked_at() {
    let (mut client, mut stream) = pair().await;
    client.write_all(&[b'x'; 100]).await.unwrap();
    for longest in [0, 1, 7, 100] {
        assert_eq!(stream.read_until(longest, line).await.unwrap(), None);
        assert_eq!(stream.prefix().len(), longest);
    }
    // What was read for another look counts.
    assert_eq!(stream.read_until(8, line).await.unwrap(), None);
    assert_eq!(stream.prefix().len(), 100);
}

#[tokio::test]
async fn an_end_before_a_decision_stays_an_end() {
    for (mut client, mut stream) in pairs().await {
        client.write_all(b"no line").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(in_time(stream.read_until(100, line)).await.unwrap(), None);
        assert_eq!(in_time(stream.read_more()).await.unwrap(), 0);
        let mut all = String::new();
        in_time(stream.read_to_string(&mut all)).await.unwrap();
        assert_eq!(all, "no line");
        stream.write_all(b"still open this way").await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_met_by_a_look_is_met_by_the_reader() {
    for (mut client, mut stream) in pairs().await {
        client.write_all(b"half").await.unwrap();
        let seen = in_time(stream.read_until(100, |bytes| (bytes.len() == 4).then_some(())));
        seen.await.unwrap();
        client.reset_on_close();
        drop(client);
        let error = in_time(stream.read_until(100, line)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let again = in_time(stream.read_more()).await.unwrap_err();
        assert_eq!(again.kind(), error.kind());
        let mut bytes = [0; 4];
        in_time(stream.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"half");
        let read = in_time(stream.read(&mut bytes)).await.unwrap_err();
        assert_eq!(read.kind(), error.kind());
        let kept = stream.take_first().error.unwrap();
        assert_eq!(kept.kind(), error.kind());
    }
}

#[tokio::test]
async fn nothing_is_held_while_nothing_comes() {
    let (mut client, mut stream) = pair().await;
    let looking = stream.read_until(100, line);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), looking)
            .await
            .is_err()
    );
    assert_eq!(stream.prefix.capacity(), 0);
    client.write_all(b"x\n").await.unwrap();
    in_time(stream.read_until(100, line)).await.unwrap();
    assert_eq!(in_time(stream.read_u16()).await.unwrap(), 0x780a);
    assert_eq!(stream.prefix.capacity(), 0, "given back once it was read");
}

#[tokio::test]
async fn whoever_speaks_first_is_heard_and_nobody_loses_a_byte() {
    for server_is_first in [true, false] {
        let ((mut client, mut downstream), (mut server, mut upstream)) =
            (pair().await, pair().await);
        let speaker = match server_is_first {
            true => &mut server,
            false => &mut client,
        };
        speaker.write_all(b"220 ready\n").await.unwrap();
        let server_spoke = in_time(async {
            tokio::select! {
                read = downstream.read_more() => (read.unwrap(), false),
                read = upstream.read_more() => (read.unwrap(), true),
            }
        });
        assert_eq!(server_spoke.await, (10, server_is_first));
        let (mut spoken, mut silent) = match server_is_first {
            true => (upstream, downstream),
            false => (downstream, upstream),
        };
        assert_eq!(spoken.take_first().bytes, "220 ready\n");
        assert!(silent.take_first().bytes.is_empty());
    }
}
