//! The ends that tests talk to, talking to each other: what is good is taken here, so that a
//! refusal in a test is the tested side's.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_model::Change;
use weft_proto::v1::CaptureState;
use weft_testing::agent::{FakeAgent, connect};
use weft_testing::authority::{Authority, Credential, Leaf};
use weft_testing::control_plane::{FakeControlPlane, SERVER_NAME, Signing};
use weft_testing::fixtures::{identity, workload};
use weft_testing::hbone::{self, Tunnel};
use weft_testing::resources::{resource, service_removed};
use weft_testing::wait::in_time;
use weft_testing::{tcp, tls};

/// An agent of `node-1` with a token.
async fn agent_of(control_plane: &FakeControlPlane) -> FakeAgent {
    let roots = std::fs::read(control_plane.root_file()).unwrap();
    let token = std::fs::read_to_string(control_plane.token_file()).unwrap();
    let channel = connect(&control_plane.address(), SERVER_NAME, &roots).await;
    FakeAgent::new(channel.unwrap(), "node-1", Some(token.trim()))
}

#[tokio::test]
async fn an_agent_hears_what_the_control_plane_says_and_reports_back() {
    let mut control_plane = FakeControlPlane::start().await;
    let agent = agent_of(&control_plane).await;
    let (stream, server) = tokio::join!(agent.subscribe(), control_plane.stream());
    let (mut stream, mut server) = (stream.unwrap(), server);
    assert_eq!(server.authorization, "Bearer first-token");
    assert_eq!(server.subscribe().await.node, "node-1");

    let pod = Change::Workload(workload("web", [10, 0, 0, 1], "node-1"));
    server.synchronize(vec![resource(&pod, "1")]).await;
    let all = stream.synchronize().await;
    assert_eq!(Change::try_from(all[0].clone()).unwrap(), pod);
    stream.acknowledge(1, Vec::new()).await;
    assert_eq!(server.acknowledge().await.sequence, 1);
    stream.report("web", CaptureState::Captured, "").await;
    assert_eq!(server.capture().await.pods[0].workload_uid, "web");
    server.send(service_removed(2, "db")).await;
    assert_eq!(stream.removed("shop/db").await.name, "shop/db");
    server.fail(tonic::Status::unavailable("stopping")).await;
    assert_eq!(stream.receive().await.unwrap_err().message(), "stopping");
}

#[tokio::test]
async fn a_control_plane_signs_as_it_is_told_and_is_known_by_its_own_root_only() {
    let control_plane = FakeControlPlane::start().await;
    let agent = agent_of(&control_plane).await;
    let web = identity("web").to_string();
    let answer = agent.sign(&web).await.unwrap();
    assert_eq!(answer.roots, [control_plane.authority().root().to_vec()]);
    control_plane.set_signing(Signing::Empty);
    assert!(agent.sign(&web).await.unwrap().chain.is_empty());
    control_plane.set_signing(Signing::Unavailable);
    agent.sign(&web).await.unwrap_err();
    assert_eq!(control_plane.sign_requests(), 3);

    let stranger = Authority::new();
    let roots = stranger.root_pem().as_bytes();
    let refused = connect(&control_plane.address(), SERVER_NAME, roots).await;
    assert!(refused.is_err());
}

/// Whether a client that verifies it takes a server with this certificate.
async fn is_taken(authority: &Authority, presented: &Credential) -> bool {
    let (client, accepted) = tcp::pair().await;
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(presented, &[])));
    let connector = TlsConnector::from(tls::web_client(authority));
    let name = ServerName::try_from("web.example").unwrap();
    let handshakes =
        async { tokio::join!(connector.connect(name, client), acceptor.accept(accepted)) };
    in_time(handshakes).await.0.is_ok()
}

#[tokio::test]
async fn good_certificates_are_good_and_bad_ones_bad_by_what_was_asked_for_only() {
    let authority = Authority::new();
    let leaf = Leaf::server("web.example");
    assert!(is_taken(&authority, &authority.issue(&leaf)).await);
    for bad in [leaf.clone().expired(), leaf.clone().not_yet_valid()] {
        assert!(
            !is_taken(&authority, &authority.issue(&bad)).await,
            "{bad:?}"
        );
    }
    assert!(!is_taken(&authority, &authority.issue(&Leaf::server("other.example"))).await);
    assert!(!is_taken(&authority, &Authority::new().issue(&leaf)).await);
}

#[tokio::test]
async fn a_tunnel_carries_a_question_and_its_answer() {
    let authority = Authority::new();
    let presented = authority.workload(&identity("server"));
    let gateway = tcp::serve(tcp::listen().await, move |stream| {
        let presented = presented.clone();
        async move { hbone::serve(stream, &presented, "answer").await }
    });
    let request = hbone::connect(gateway);
    let tunnel = Tunnel::open(gateway, hbone::client(None), request).await;
    let answer = in_time(tunnel.unwrap().exchange("question")).await;
    assert_eq!(answer.unwrap(), "answer");
}
