use bytes::Bytes;
use h2::client::SendRequest;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use weft_testing::fixtures::identity;
use weft_testing::wait::in_time;

use crate::fixtures::{CLIENT, DESTINATION, Order, TunnelFixture};
use crate::tls;
use crate::tls::handshake::ClientTls;
use crate::tunnel::hbone::request::connect_request;

/// A client that sends whatever requests it likes.
async fn client(mesh: &TunnelFixture) -> SendRequest<Bytes> {
    let certificate = mesh.certificates.current(&identity("client")).unwrap();
    let config = tls::client_config(&certificate, &mesh.peer.identity).unwrap();
    let tcp = TcpStream::connect(mesh.peer.gateway).await.unwrap();
    let tls = tls::handshake::connect(tcp, Arc::new(config))
        .await
        .unwrap();
    let (requests, connection) = h2::client::handshake(tls).await.unwrap();
    tokio::spawn(connection);
    requests.ready().await.unwrap()
}

#[tokio::test]
async fn a_request_tells_its_destination_and_its_client() {
    let mut mesh = TunnelFixture::new().await;
    let mut client = client(&mesh).await;
    let request = connect_request(DESTINATION, CLIENT).unwrap();
    let (response, _send) = client.send_request(request, false).unwrap();
    let request = in_time(mesh.requests.recv()).await.unwrap();
    assert_eq!(request.destination(), Ok(DESTINATION));
    assert_eq!(request.forwarded_client(CLIENT.ip()), Some(CLIENT));
    let _accepted = request.accept().unwrap();
    assert_eq!(in_time(response).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_opens_no_tunnel_can_be_refused() {
    let mut mesh = TunnelFixture::new().await;
    let mut client = client(&mesh).await;
    let mut request = Request::new(());
    *request.uri_mut() = "http://10.0.0.1:80/".parse().unwrap();
    let (response, _send) = client.send_request(request, true).unwrap();
    let request = in_time(mesh.requests.recv()).await.unwrap();
    let method = InvalidTunnelRequest::Method(Method::GET);
    assert_eq!(request.destination(), Err(method));
    request.refuse(StatusCode::BAD_REQUEST);
    let response = in_time(response).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_request_without_an_answer_is_reset() {
    let mut mesh = TunnelFixture::new().await;
    let mut client = client(&mesh).await;
    let request = connect_request(DESTINATION, CLIENT).unwrap();
    let (response, _send) = client.send_request(request, false).unwrap();
    drop(in_time(mesh.requests.recv()).await);
    assert!(in_time(response).await.unwrap_err().is_reset());
}

#[tokio::test]
async fn a_draining_connection_ends_after_its_last_stream() {
    let mut mesh = TunnelFixture::new().await;
    let (opened, accepted) = mesh.open_accepted().await;
    let connection = mesh.connections.recv().await.unwrap();
    connection.send(Order::Drain).unwrap();
    let mut ended = std::pin::pin!(connection.closed());
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut ended).await;
    assert!(early.is_err(), "it still has a stream");
    drop((opened, accepted));
    in_time(ended).await;
}

/// Both ends of a connection whose TLS is there.
async fn tls_ends(mesh: &TunnelFixture) -> (ClientTls, ServerTls) {
    let certificate = mesh.certificates.current(&identity("client")).unwrap();
    let server = mesh.certificates.current(&identity("server")).unwrap();
    let (near, far) = crate::fixtures::tcp_pair().await;
    let near = tls::handshake::connect(
        near,
        Arc::new(tls::client_config(&certificate, &mesh.peer.identity).unwrap()),
    );
    let far = tls::handshake::accept(far, Arc::new(tls::server_config(&server).unwrap()));
    let (near, far) = tokio::join!(near, far);
    (near.unwrap(), far.unwrap())
}

/// Both ends of a connection.
async fn ends(mesh: &TunnelFixture) -> (SendRequest<Bytes>, HboneServer) {
    let (near, far) = tls_ends(mesh).await;
    let memory = Arc::default();
    let server = HboneServer::handshake(far, &memory, None);
    let (client, server) = tokio::join!(h2::client::handshake(near), server);
    let (requests, connection) = client.unwrap();
    tokio::spawn(connection);
    (requests, server.unwrap())
}

#[tokio::test]
async fn an_old_connection_takes_no_new_streams_and_cuts_none() {
    let mesh = TunnelFixture::new().await;
    let (mut client, mut server) = ends(&mesh).await;
    let request = || connect_request(DESTINATION, CLIENT).unwrap();
    let (response, mut send) = client.send_request(request(), false).unwrap();
    let accepted = in_time(server.accept()).await.unwrap().unwrap();
    let mut stream = accepted.accept().unwrap();
    server.aged = Box::pin(tokio::time::sleep(std::time::Duration::ZERO));
    let driven = tokio::spawn(async move {
        while let Some(accepted) = server.accept().await {
            assert!(accepted.is_err(), "a new stream");
        }
    });
    in_time(response).await.unwrap();
    // The client has heard of it once it can open no more.
    in_time(async {
        while client.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    send.send_data(Bytes::from_static(b"ping"), true).unwrap();
    let mut bytes = Vec::new();
    in_time(stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, b"ping");
    assert!(!driven.is_finished());
    drop((stream, send));
    in_time(driven).await.unwrap();
}

#[tokio::test]
async fn nothing_is_accepted_after_the_end() {
    let mesh = TunnelFixture::new().await;
    let (client, mut server) = ends(&mesh).await;
    drop(client);
    while let Some(accepted) = in_time(server.accept()).await {
        assert!(accepted.is_err(), "a request of nobody");
    }
    assert!(in_time(server.accept()).await.is_none());
}

#[tokio::test]
async fn a_head_of_a_tunnel_that_never_ends_has_the_time_of_every_other_head() {
    let mesh = TunnelFixture::new().await;
    let (mut client, server) = tls_ends(&mesh).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Without END_HEADERS.
    let head = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
    client
        .write_all(&[&preface[..], &settings, &head].concat())
        .await
        .unwrap();
    let time = Some(std::time::Duration::from_millis(50));
    let server = HboneServer::handshake(server, &Arc::default(), time).await;
    let accepted = in_time(server.unwrap().accept()).await;
    assert!(matches!(accepted, Some(Err(_))), "{accepted:?}");
}
