use proptest::prelude::*;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use weft_testing::wait::in_time;

use crate::fixtures::tls_pair;
use crate::stream::Stream;

/// A connection, and its other end.
async fn pair() -> (BatchedTls, Box<TlsStream<TcpStream>>) {
    let (Stream::Tls(near), Stream::Tls(far)) = tls_pair().await else {
        panic!("no TLS");
    };
    (BatchedTls::new(*near), far)
}

#[tokio::test]
async fn the_writes_of_one_turn_are_one_record() {
    let (near, far) = pair().await;
    let mut writing = near.clone();
    near.drive(async {
        for _ in 0..100 {
            writing.write_all(&[7; 100]).await.unwrap();
            writing.flush().await.unwrap();
        }
    })
    .await;
    assert_eq!(near.lock().waiting.capacity(), 0, "held though it was sent");
    let TlsStream::Server(far) = *far else {
        panic!("the other end is the server");
    };
    let (mut tcp, _) = far.into_inner();
    let mut record = vec![0; 20_000];
    let mut read = 0;
    while read < 10_000 {
        read += in_time(tcp.read(&mut record[read..])).await.unwrap();
    }
    // Its header, type and tag (RFC 8446 section 5.2).
    assert_eq!(read, 10_000 + 5 + 1 + 16);
}

#[tokio::test]
async fn what_is_written_before_a_wait_does_not_wait() {
    let (near, mut far) = pair().await;
    let mut both = near.clone();
    let exchange = near.drive(async {
        both.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        both.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"pong");
    });
    let answering = async {
        let mut question = [0; 4];
        far.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"ping");
        far.write_all(b"pong").await.unwrap();
        far.flush().await.unwrap();
    };
    in_time(async { tokio::join!(exchange, answering) }).await;
}

/// Bytes that a peer is sent which takes little at once, so that most of them wait in the
/// kernel; and what the peer has said meanwhile is not read.
async fn near_with_much_on_its_way() -> (BatchedTls, Box<TlsStream<TcpStream>>, usize) {
    let (near, mut far) = pair().await;
    let size = 160 * 1024;
    let socket = |tls: &TlsStream<TcpStream>, set: fn(&SockRef<'_>)| {
        set(&SockRef::from(tls.get_ref().0));
    };
    socket(&far, |far| far.set_recv_buffer_size(4096).unwrap());
    let large = |near: &SockRef<'_>| near.set_send_buffer_size(200 * 1024).unwrap();
    socket(&near.lock().tls, large);
    let mut writing = near.clone();
    in_time(near.drive(writing.write_all(&vec![7; size])))
        .await
        .unwrap();
    far.write_all(&[8; 1000]).await.unwrap();
    far.flush().await.unwrap();
    (near, far, size)
}

#[tokio::test]
async fn a_peer_gets_all_that_it_was_sent_though_what_it_says_meanwhile_is_not_wanted() {
    let (near, mut far, size) = near_with_much_on_its_way().await;
    let closed = tokio::spawn(async move { near.close().await });
    let mut received = Vec::new();
    in_time(far.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received.len(), size);
    // It ends its side, too, and that is all that was waited for.
    drop(far);
    in_time(closed).await.unwrap();
}

#[tokio::test]
async fn a_connection_is_closed_though_its_peer_never_ends_its_side() {
    let (near, far, _) = near_with_much_on_its_way().await;
    in_time(near.close()).await;
    drop(far);
}

#[tokio::test]
async fn a_connection_that_breaks_while_it_sends_tells_so() {
    let (near, far) = pair().await;
    far.get_ref().0.set_zero_linger().unwrap();
    drop(far);
    let mut writing = near.clone();
    let broken = near.drive(async {
        loop {
            if let Err(error) = writing.write_all(b"x").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    let kind = in_time(broken).await.kind();
    let is_expected = matches!(
        kind,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    );
    assert!(is_expected, "{kind}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn small_and_large_writes_keep_their_order(
        writes in prop::collection::vec(
            prop::collection::vec(prop_oneof![0usize..300, 0usize..150_000], 1..20), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(in_time(async {
            let (near, mut far) = pair().await;
            let total: usize = writes.iter().flatten().sum();
            let all: Vec<u8> = (0..total).map(|position| (position % 251) as u8).collect();
            let mut writing = near.clone();
            let (sent, mut rest) = (all.clone(), &all[..]);
            let write = near.drive(async move {
                let mut left = &sent[..];
                for slices in writes {
                    let slices: Vec<_> = slices.into_iter().map(|size| {
                        let (slice, after) = left.split_at(size);
                        left = after;
                        IoSlice::new(slice)
                    }).collect();
                    write_vectored(&mut writing, slices).await;
                }
                writing.shutdown().await.unwrap();
            });
            let read = async {
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match far.read(&mut buffer).await.unwrap() {
                        0 => return,
                        count => {
                            assert!(rest.starts_with(&buffer[..count]));
                            rest = &rest[count..];
                        }
                    }
                }
            };
            tokio::join!(write, read);
            assert!(rest.is_empty(), "{} bytes are missing", rest.len());
        }));
    }
}

async fn write_vectored(sink: &mut BatchedTls, mut slices: Vec<IoSlice<'_>>) {
    let mut slices = slices.as_mut_slice();
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let written = sink.write_vectored(slices).await.unwrap();
        IoSlice::advance_slices(&mut slices, written);
    }
}
