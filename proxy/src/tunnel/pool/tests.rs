use std::future::poll_fn;
use std::task::Poll;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use weft_testing::fixtures::identity;
use weft_testing::wait::{in_time, wait_until};

use crate::fixtures::{CLIENT, DESTINATION, Order, TunnelFixture, certificate};
use crate::tunnel::hbone::server::TunnelRequest;

/// Streams that one connection carries.
const FULL: usize = 100;

/// That many streams, opened at once.
async fn open_many(mesh: &mut TunnelFixture, count: usize) -> Vec<(TunnelStream, TunnelStream)> {
    let (pool, sockets, peer) = (&mesh.pool, &mesh.sockets, &mesh.peer);
    let opening: Vec<_> = (0..count)
        .map(|_| pool.open(sockets, peer, DESTINATION, CLIENT))
        .collect();
    let opened = async {
        let mut opened = Vec::new();
        for stream in join_all(opening).await {
            opened.push(stream.unwrap());
        }
        opened
    };
    let accepted = async {
        let mut accepted = Vec::new();
        while accepted.len() < count {
            accepted.push(mesh.requests.recv().await.unwrap().accept().unwrap());
        }
        accepted
    };
    let (opened, accepted) = in_time(async { tokio::join!(opened, accepted) }).await;
    opened.into_iter().zip(accepted).collect()
}

async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    poll_fn(|context| {
        for (future, output) in &mut futures {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        match futures.iter().all(|(_, output)| output.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    futures
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

async fn echo_once((opened, accepted): &mut (TunnelStream, TunnelStream)) {
    opened.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    in_time(accepted.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"ping");
}

#[tokio::test]
async fn streams_share_a_connection_until_it_is_full() {
    let mut mesh = TunnelFixture::new().await;
    let first = open_many(&mut mesh, FULL).await;
    assert_eq!((mesh.dials(), mesh.pool.len()), (1, 1));
    let mut second = open_many(&mut mesh, 1).await;
    assert_eq!((mesh.dials(), mesh.pool.len()), (2, 2));
    echo_once(&mut second[0]).await;
    drop(first);
}

#[tokio::test]
async fn a_connection_that_has_come_of_age_is_replaced_and_keeps_its_streams() {
    let mut mesh = TunnelFixture::new().await;
    let mut old = open_many(&mut mesh, 1).await;
    let certificate = mesh.certificates.current(&identity("client")).unwrap();
    let connections = mesh.pool.connections(&mesh.peer);
    let young = Instant::now() + client_age(0.0) / 2;
    assert!(connections.reserve(&certificate, young).is_some());
    let aged = Instant::now() + client_age(1.0);
    assert!(connections.reserve(&certificate, aged).is_none());
    let mut new = open_many(&mut mesh, 1).await;
    assert_eq!((mesh.dials(), mesh.pool.len()), (2, 1));
    echo_once(&mut old[0]).await;
    echo_once(&mut new[0]).await;
}

#[tokio::test]
async fn a_permit_is_given_back_once_however_a_stream_ends() {
    let mut mesh = TunnelFixture::new().await;
    let mut open = open_many(&mut mesh, FULL).await;
    for end in 0..4 {
        let (mut opened, mut accepted) = open.pop().unwrap();
        match end {
            0 => {}
            1 => opened.reset(),
            2 => {
                opened.shutdown().await.unwrap();
                accepted.shutdown().await.unwrap();
                assert_eq!(in_time(opened.read(&mut [0])).await.unwrap(), 0);
            }
            _ => {
                // Refused and given up while it was opened, in place of ended.
                drop((opened, accepted));
                let (refused, ()) = tokio::join!(
                    mesh.pool
                        .open(&mesh.sockets, &mesh.peer, DESTINATION, CLIENT),
                    async {
                        let request: TunnelRequest = mesh.requests.recv().await.unwrap();
                        request.refuse(StatusCode::SERVICE_UNAVAILABLE);
                    }
                );
                let error = refused.unwrap_err();
                assert!(
                    matches!(error, TunnelError::Refused(status) if status == 503),
                    "{error}"
                );
                let given_up = tokio::time::timeout(Duration::from_millis(20), mesh.open()).await;
                assert!(given_up.is_err(), "opened without an answer");
                let _ = mesh.requests.recv().await;
                open.extend(open_many(&mut mesh, 1).await);
                continue;
            }
        }
        drop((opened, accepted));
        open.extend(open_many(&mut mesh, 1).await);
    }
    assert_eq!(mesh.dials(), 1, "a permit was lost");
    open.extend(open_many(&mut mesh, 1).await);
    assert_eq!(mesh.dials(), 2, "a permit was given back twice");
}

#[tokio::test]
async fn a_dead_connection_is_replaced() {
    let mut mesh = TunnelFixture::new().await;
    let (mut opened, _accepted) = mesh.open_accepted().await;
    let connection = mesh.connections.recv().await.unwrap();
    connection.send(Order::Die).unwrap();
    assert!(in_time(opened.read(&mut [0])).await.is_err());
    let mut again = mesh.open_accepted().await;
    echo_once(&mut again).await;
    assert_eq!((mesh.dials(), mesh.pool.len()), (2, 1));
}

#[tokio::test]
async fn a_connection_on_its_way_out_takes_nothing_new_and_keeps_what_it_has() {
    let mut mesh = TunnelFixture::new().await;
    let mut old = mesh.open_accepted().await;
    assert!(!old.0.health().is_draining() && !old.1.health().is_draining());
    let connection = mesh.connections.recv().await.unwrap();
    connection.send(Order::Drain).unwrap();
    wait_until("told to drain", || old.0.health().is_draining()).await;
    assert!(old.1.health().is_draining());
    let mut new = mesh.open_accepted().await;
    assert_eq!(mesh.dials(), 2);
    assert!(!new.0.health().is_draining());
    echo_once(&mut old).await;
    echo_once(&mut new).await;
}

#[tokio::test]
async fn a_new_certificate_makes_a_new_connection_and_cuts_nothing() {
    let mut mesh = TunnelFixture::new().await;
    let mut old = mesh.open_accepted().await;
    let renewed = certificate(&mesh.authority, &identity("client"));
    mesh.certificates.publish(Arc::new(renewed));
    let mut new = mesh.open_accepted().await;
    assert_eq!((mesh.dials(), mesh.pool.len()), (2, 1));
    echo_once(&mut old).await;
    echo_once(&mut new).await;
}

#[tokio::test]
async fn a_successor_on_the_same_address_is_another_peer() {
    let mut mesh = TunnelFixture::new().await;
    let _first = mesh.open_accepted().await;
    mesh.peer.workload = "server-2".into();
    let _second = mesh.open_accepted().await;
    assert_eq!((mesh.dials(), mesh.pool.len()), (2, 2));
    mesh.pool.retain(|peer| peer.workload == "server-2".into());
    assert_eq!(mesh.pool.len(), 1);
    let _third = mesh.open_accepted().await;
    assert_eq!(mesh.dials(), 2, "the peer that was kept has its connection");
}

#[tokio::test]
async fn a_peer_that_is_somebody_else_gets_nothing() {
    let mut mesh = TunnelFixture::new().await;
    mesh.peer.identity = identity("admin");
    let error = mesh.open().await.unwrap_err();
    assert!(matches!(error, TunnelError::Tls(_)), "{error}");
    assert!(error.to_string().contains("sa/server"), "{error}");
    assert_eq!(mesh.pool.len(), 0);
    assert!(mesh.requests.try_recv().is_err());
}

#[tokio::test]
async fn without_a_certificate_nobody_is_dialled() {
    let mesh = TunnelFixture::new().await;
    mesh.certificates.remove(&identity("client"));
    let error = mesh.open().await.unwrap_err();
    assert!(matches!(error, TunnelError::NoCertificate), "{error}");
    assert_eq!(mesh.dials(), 0);
}

#[tokio::test]
async fn a_connection_without_streams_ends_after_a_while() {
    let mut mesh = TunnelFixture::with_idle(Duration::from_millis(60)).await;
    let (opened, accepted) = mesh.open_accepted().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(mesh.pool.len(), 1, "it has a stream");
    drop((opened, accepted));
    wait_until("unused", || mesh.pool.len() == 0).await;
    mesh.open_accepted().await;
    assert_eq!(mesh.dials(), 2);
}

/// A peer whose proxy takes the connection and never answers.
#[tokio::test]
async fn a_silent_peer_is_given_up_in_time() {
    let mut mesh = TunnelFixture::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    mesh.peer.gateway = listener.local_addr().unwrap();
    let mut opening =
        std::pin::pin!(
            mesh.pool
                .open(&mesh.sockets, &mesh.peer, DESTINATION, CLIENT)
        );
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted.unwrap(),
        _ = &mut opening => panic!("opened by itself"),
    };
    tokio::time::pause();
    let error = opening.await.unwrap_err();
    assert!(matches!(error, TunnelError::Timeout), "{error}");
    drop(accepted);
}

#[tokio::test]
async fn streams_that_are_cut_cost_the_others_of_their_connection_nothing() {
    let mut mesh = TunnelFixture::new().await;
    let mut sentinel = mesh.open_accepted().await;
    for number in 0..3000 {
        let (mut opened, accepted) = mesh.open_accepted().await;
        // More is on its way when the stream is cut, by either end.
        opened.write_all(&[0; 32 * 1024]).await.unwrap();
        if number % 2 == 0 {
            drop(accepted);
        }
        if number % 100 == 0 {
            echo_once(&mut sentinel).await;
        }
    }
    echo_once(&mut sentinel).await;
    let dials = mesh.dials();
    assert!((2..=4).contains(&dials), "retired after many: {dials}");
}
