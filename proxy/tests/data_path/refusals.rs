//! Who may not: wrong certificates, wrong requests, wrong peers.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Method, Request, StatusCode};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::Change;
use weft_model::mtls::MtlsMode;
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};
use weft_model::workload::Workload;
use weft_testing::authority::{Authority, Leaf};
use weft_testing::fixtures::identity;
use weft_testing::hbone::{self, Tunnel, connect};
use weft_testing::tcp::{echo, exchange};
use weft_testing::tls;
use weft_testing::wait::{DEADLINE, in_time};

use crate::application;
use crate::bed::{Bed, Pod, certificate, certificate_that_says};

/// Opens a tunnel with a raw client; the status, or `None` when it never got so far.
async fn knock(pod: &Pod, config: ClientConfig, request: Request<()>) -> Option<StatusCode> {
    let opened = in_time(Tunnel::open(pod.at(HBONE_PORT), config, request)).await;
    Some(opened.ok()?.status)
}

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";
#[tokio::test]
async fn only_clients_of_the_trust_domain_with_a_valid_certificate_come_in() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    let presenting = |leaf: &Leaf| hbone::client(Some(&bed.authority.issue(leaf)));
    let client = Leaf::uri(CLIENT);
    let good = knock(&server, presenting(&client), connect(to)).await;
    assert_eq!(good, Some(StatusCode::OK));
    let tls12 = tls::client_that_trusts_anyone(
        Some(&bed.authority.issue(&client)),
        &rustls::version::TLS12,
        &["h2"],
    );
    for (what, config) in [
        ("no certificate", hbone::client(None)),
        ("TLS 1.2", tls12),
        (
            "another trust domain",
            presenting(&Leaf::uri("spiffe://elsewhere/ns/default/sa/client")),
        ),
        (
            "no SPIFFE ID",
            presenting(&Leaf::uri("https://cluster.local/client")),
        ),
        (
            "a deeper path",
            presenting(&Leaf::uri(
                "spiffe://cluster.local/ns/default/sa/client/admin",
            )),
        ),
        ("expired", presenting(&client.clone().expired())),
        ("not valid yet", presenting(&client.clone().not_yet_valid())),
        (
            "another root",
            hbone::client(Some(&Authority::new().issue(&client))),
        ),
    ] {
        assert_eq!(knock(&server, config, connect(to)).await, None, "{what}");
    }
}

#[tokio::test]
async fn requests_that_are_no_tunnel_to_this_pod_are_answered_400() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    let other = bed.pod("node-1", "other");
    let elsewhere = application(&other, echo).await;
    let presented = bed.authority.issue(&Leaf::uri(CLIENT));
    let get = Request::builder()
        .uri(format!("https://{to}/"))
        .body(())
        .unwrap();
    let name = Request::builder()
        .method(Method::CONNECT)
        .uri("server.default:80")
        .body(())
        .unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, to.port()));
    for (what, request) in [
        ("another pod", connect(elsewhere)),
        ("loopback", connect(loopback)),
        ("the proxy itself", connect(server.at(HBONE_PORT))),
        ("GET", get),
        ("a name", name),
    ] {
        let status = knock(&server, hbone::client(Some(&presented)), request).await;
        assert_eq!(status, Some(StatusCode::BAD_REQUEST), "{what}");
    }
}

#[tokio::test]
async fn an_application_that_is_not_there_is_answered_503() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let presented = bed.authority.issue(&Leaf::uri(CLIENT));
    let status = knock(
        &server,
        hbone::client(Some(&presented)),
        connect(server.at(9)),
    )
    .await;
    assert_eq!(status, Some(StatusCode::SERVICE_UNAVAILABLE));
}

#[tokio::test]
async fn a_peer_that_is_someone_else_never_gets_a_byte() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let wrong = [
        certificate_that_says(
            &bed.authority,
            &identity("server"),
            "spiffe://cluster.local/ns/default/sa/other",
        ),
        certificate(&Authority::new(), &identity("server")),
    ];
    for certificate in wrong {
        let server = bed.pod_with("node-2", "server", certificate);
        let to = application(&server, echo).await;
        // It may be refused before it has looked connected.
        if let Ok(mut stream) = client.connect(to).await {
            let _ = stream.write_all(b"secret").await;
            let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1]))
                .await
                .unwrap();
            assert!(!matches!(read, Ok(1..)), "{read:?}");
        }
        assert_eq!(server.dials(to.port()), 0);
    }
    bed.counts("node-1", &["response_flags=\"TLS_FAILURE\"} 2"])
        .await;
}

#[tokio::test]
async fn strict_refuses_plaintext() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    bed.tell(&Change::Workload(Workload {
        mtls_mode: MtlsMode::Strict,
        ..Workload::clone(&server.workload)
    }));
    // Refused while the connection is still being set up, or right after.
    let answered = async {
        let mut stream = TcpStream::connect(server.at(INBOUND_PLAINTEXT_PORT)).await?;
        stream.write_all(b"hello").await?;
        stream.read(&mut [0; 1]).await
    };
    let read = tokio::time::timeout(DEADLINE, answered).await.unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    bed.counts("node-1", &["response_flags=\"DENY\"} 1"]).await;
    assert_eq!(server.sockets.dials.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_connection_that_was_not_captured_leads_nowhere() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let answered = async {
        let mut stream = TcpStream::connect(client.at(OUTBOUND_PORT)).await?;
        stream.write_all(b"hello").await?;
        stream.read(&mut [0; 1]).await
    };
    let read = tokio::time::timeout(DEADLINE, answered).await.unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

#[tokio::test]
async fn a_client_whose_trust_ends_is_cut() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let to = application(&server, echo).await;
    let mut stream = client.connect(to).await.unwrap();
    assert_eq!(exchange(&mut stream, "before").await, "before");
    // The workload moves to another trust domain: its clients are strangers now.
    let moved = "spiffe://elsewhere/ns/default/sa/server".parse().unwrap();
    let workload = Workload::clone(&server.workload);
    bed.tell(&Change::Workload(Workload {
        identity: moved,
        ..workload
    }));
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1]))
        .await
        .unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

#[tokio::test]
async fn a_disabled_port_is_reached_in_plaintext_and_the_others_by_tunnels() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let (disabled, other) = (
        application(&server, echo).await,
        application(&server, echo).await,
    );
    bed.tell(&Change::Workload(Workload {
        mtls_mode: MtlsMode::Strict,
        port_modes: format!("{}=disabled", disabled.port()).parse().unwrap(),
        ..Workload::clone(&server.workload)
    }));
    for (to, policy) in [(disabled, "unknown"), (other, "mutual_tls")] {
        let mut stream = client.connect(to).await.unwrap();
        assert_eq!(exchange(&mut stream, "hello").await, "hello");
        drop(stream);
        let policy = format!("connection_security_policy=\"{policy}\"");
        let counted = ["istio_tcp_connections_closed_total{", &policy, "\"source\""];
        bed.counts("node-1", &counted).await;
    }
    // In the bed, nothing steers plaintext to the server's proxy.
    assert_eq!(client.dials(HBONE_PORT), 1);
    assert_eq!(client.dials(disabled.port()), 1);
}

#[tokio::test]
async fn plaintext_is_taken_by_the_mode_of_its_port_and_cut_when_that_turns_strict() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let (open, strict) = (
        application(&server, echo).await,
        application(&server, echo).await,
    );
    let tell = |mode: &str| {
        bed.tell(&Change::Workload(Workload {
            mtls_mode: MtlsMode::Strict,
            port_modes: format!("{}={mode}", open.port()).parse().unwrap(),
            ..Workload::clone(&server.workload)
        }));
    };
    // As the kernel steers a connection for that port.
    let connect = async |to: SocketAddr| {
        *server.sockets.steered_for.lock().unwrap() = Some(to.port());
        TcpStream::connect(server.at(INBOUND_PLAINTEXT_PORT)).await
    };
    let is_refused = async |to: SocketAddr| {
        let answered = async {
            let mut stream = connect(to).await?;
            stream.write_all(b"hello").await?;
            stream.read(&mut [0; 1]).await
        };
        !matches!(in_time(answered).await, Ok(1..))
    };
    tell("permissive");
    let mut stream = connect(open).await.unwrap();
    assert_eq!(exchange(&mut stream, "hello").await, "hello");
    assert!(is_refused(strict).await);
    tell("strict");
    let read = in_time(stream.read(&mut [0; 1])).await;
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    assert!(is_refused(open).await);
    tell("disabled");
    let mut stream = connect(open).await.unwrap();
    assert_eq!(exchange(&mut stream, "again").await, "again");
}
