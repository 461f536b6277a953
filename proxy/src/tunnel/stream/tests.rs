use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use weft_testing::wait::in_time;

use crate::fixtures::{Order, TunnelFixture, tunnel_pair};
use crate::tunnel::hbone::limits::WINDOWS;

/// Bytes that the peer takes before the receiver has read any: its stream window.
const WINDOW: usize = WINDOWS.stream as usize;

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

async fn receive(stream: &mut TunnelStream) -> Option<io::Result<Bytes>> {
    let (receiver, _) = stream.split();
    in_time(poll_fn(|context| receiver.poll_receive(context))).await
}

async fn is_pending<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future)
        .await
        .is_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_written_in_any_pieces_is_read_in_any_pieces(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20),
        is_vectored: bool,
        read_size in 1usize..5000,
    ) {
        block_on(async {
            let (mut opened, mut accepted) = tunnel_pair().await;
            let all = pieces.concat();
            let writing = async {
                match is_vectored {
                    true => write_vectored(&mut opened, &pieces).await,
                    false => for piece in &pieces {
                        opened.write_all(piece).await.unwrap();
                    }
                }
                opened.shutdown().await.unwrap();
            };
            let reading = async {
                let (mut read, mut buffer) = (Vec::new(), vec![0; read_size]);
                loop {
                    match accepted.read(&mut buffer).await.unwrap() {
                        0 => return read,
                        count => read.extend_from_slice(&buffer[..count]),
                    }
                }
            };
            let ((), read) = in_time(async { tokio::join!(writing, reading) }).await;
            assert_eq!(read, all);
        });
    }
}

async fn write_vectored(stream: &mut TunnelStream, pieces: &[Vec<u8>]) {
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = slices.as_mut_slice();
    while slices.iter().any(|slice| !slice.is_empty()) {
        let written = stream.write_vectored(slices).await.unwrap();
        IoSlice::advance_slices(&mut slices, written);
    }
}

#[tokio::test]
async fn each_direction_ends_on_its_own_after_its_last_byte() {
    let (mut opened, mut accepted) = tunnel_pair().await;
    opened.write_all(b"question").await.unwrap();
    opened.shutdown().await.unwrap();
    let mut read = Vec::new();
    in_time(accepted.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"question");
    accepted.write_all(&[7; 300_000]).await.unwrap();
    accepted.shutdown().await.unwrap();
    drop(accepted);
    let mut read = Vec::new();
    in_time(opened.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, [7; 300_000]);
}

#[tokio::test]
async fn a_reset_reaches_a_peer_that_reads_and_one_that_only_waits() {
    for has_finished in [false, true] {
        let (mut opened, mut accepted) = tunnel_pair().await;
        if has_finished {
            // What it reads has ended in order before.
            opened.shutdown().await.unwrap();
            assert!(receive(&mut accepted).await.is_none());
        }
        assert!(is_pending(poll_fn(|context| accepted.poll_reset(context))).await);
        opened.reset();
        let error = in_time(poll_fn(|context| accepted.poll_reset(context))).await;
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        if !has_finished {
            let error = receive(&mut accepted).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        let (_, sender) = accepted.split();
        assert!(
            in_time(sender.send(Bytes::from_static(b"x")))
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_unfinished_is_reset() {
    let (opened, mut accepted) = tunnel_pair().await;
    drop(opened);
    assert!(receive(&mut accepted).await.unwrap().is_err());
}

#[tokio::test]
async fn the_window_opens_as_far_as_bytes_were_consumed() {
    let (mut opened, mut accepted) = tunnel_pair().await;
    let (_, sender) = opened.split();
    in_time(sender.send(vec![1; WINDOW].into())).await.unwrap();
    let mut more = std::pin::pin!(sender.send(vec![2; WINDOW / 2].into()));
    assert!(is_pending(&mut more).await, "sent beyond the window");
    let mut received = 0;
    while received < WINDOW {
        received += receive(&mut accepted).await.unwrap().unwrap().len();
    }
    assert!(is_pending(&mut more).await, "received is not consumed");
    accepted.split().0.release(WINDOW).unwrap();
    in_time(more).await.unwrap();
    while received < WINDOW + WINDOW / 2 {
        received += receive(&mut accepted).await.unwrap().unwrap().len();
    }
    assert_eq!(received, WINDOW + WINDOW / 2);
}

#[tokio::test]
async fn reading_by_copy_and_by_buffer_can_be_mixed() {
    let (mut opened, mut accepted) = tunnel_pair().await;
    opened.write_all(b"abcdef").await.unwrap();
    let mut first = [0; 2];
    in_time(accepted.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"ab");
    assert_eq!(receive(&mut accepted).await.unwrap().unwrap(), "cdef");
    accepted.split().0.release(4).unwrap();
    assert!(
        accepted.split().0.release(1).is_err(),
        "released more than was received"
    );
}

#[tokio::test]
async fn the_end_of_its_connection_breaks_both_halves() {
    let mut mesh = TunnelFixture::new().await;
    let (mut opened, mut accepted) = mesh.open_accepted().await;
    let connection = mesh.connections.recv().await.unwrap();
    connection.send(Order::Die).unwrap();
    assert!(receive(&mut opened).await.unwrap().is_err());
    in_time(poll_fn(|context| opened.poll_reset(context))).await;
    assert!(receive(&mut accepted).await.unwrap().is_err());
}

#[tokio::test]
async fn a_stream_that_is_broken_off_ends_behind_what_was_sent() {
    let (mut opened, mut accepted) = tunnel_pair().await;
    opened.write_all(&[1; 40_000]).await.unwrap();
    in_time(poll_fn(|context| opened.poll_break_off(context))).await;
    drop(opened);
    let mut received = Vec::new();
    let ended = in_time(accepted.read_to_end(&mut received)).await;
    assert_eq!(received.len(), 40_000);
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_was_sent_before_a_shutdown_arrives_though_its_stream_is_dropped() {
    // Its connection stays open: one that is closed may lose what the other end hasn't read.
    let mut mesh = TunnelFixture::new().await;
    let (mut opened, mut accepted) = mesh.open_accepted().await;
    let sent = vec![7; WINDOW / 2];
    opened.write_all(&sent).await.unwrap();
    in_time(opened.shutdown()).await.unwrap();
    drop(opened);
    let mut received = Vec::new();
    // The reset of the other direction may be there before the end is read.
    if let Err(error) = in_time(accepted.read_to_end(&mut received)).await {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    assert!(received == sent, "{} of {}", received.len(), sent.len());
}

#[tokio::test]
async fn an_end_between_two_requests_is_told_from_one_that_leaves_one_unanswered() {
    for is_unanswered in [false, true] {
        let (mut opened, mut accepted) = tunnel_pair().await;
        accepted.write_all(b"answer").await.unwrap();
        if is_unanswered {
            accepted.announce_unanswered();
        }
        accepted.shutdown().await.unwrap();
        let mut received = String::new();
        in_time(opened.read_to_string(&mut received)).await.unwrap();
        assert_eq!(received, "answer");
        assert_eq!(opened.ends_unanswered(), is_unanswered);
    }
}
