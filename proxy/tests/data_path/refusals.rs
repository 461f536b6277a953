//! Who may not: wrong certificates, wrong requests, wrong peers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Request, StatusCode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::Change;
use weft_model::mtls::MtlsMode;
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};
use weft_model::workload::Workload;

use crate::bed::{Authority, Bed, DEADLINE, Pod, identity, wait_until};
use crate::{application, echo, exchange};

/// A client that trusts everybody: what is tested is whether the server does.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn config(
    key: Option<Arc<CertifiedKey>>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match key {
        Some(key) => {
            let key = CertifiedKey::clone(&key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Opens a tunnel with a raw client; the status, or `None` when it never got so far.
async fn knock(pod: &Pod, config: ClientConfig, request: Request<()>) -> Option<StatusCode> {
    let knocked = async {
        let tcp = TcpStream::connect(pod.at(HBONE_PORT)).await.unwrap();
        let name = IpAddr::from(Ipv4Addr::UNSPECIFIED).into();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect(name, tcp).await.ok()?;
        let (requests, connection) = h2::client::handshake(tls).await.ok()?;
        tokio::spawn(connection);
        let (response, _body) = requests
            .ready()
            .await
            .ok()?
            .send_request(request, false)
            .ok()?;
        Some(response.await.ok()?.status())
    };
    tokio::time::timeout(DEADLINE, knocked)
        .await
        .expect("neither answered nor refused")
}

fn connect(authority: SocketAddr) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(authority.to_string())
        .body(())
        .unwrap()
}

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

fn now() -> SystemTime {
    SystemTime::now() - Duration::from_secs(60)
}

#[tokio::test]
async fn only_clients_of_the_trust_domain_with_a_valid_certificate_come_in() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    let issue = |name: &str| Some(bed.authority.issue(name, now()).0);
    let good = knock(&server, config(issue(CLIENT), TLS13), connect(to)).await;
    assert_eq!(good, Some(StatusCode::OK));
    let expired = SystemTime::now() - Duration::from_secs(7200);
    let early = SystemTime::now() + Duration::from_secs(7200);
    let stranger = Authority::new();
    for (what, key) in [
        ("no certificate", None),
        (
            "another trust domain",
            issue("spiffe://elsewhere/ns/default/sa/client"),
        ),
        ("no SPIFFE ID", issue("https://cluster.local/client")),
        (
            "a deeper path",
            issue("spiffe://cluster.local/ns/default/sa/client/admin"),
        ),
        ("expired", Some(bed.authority.issue(CLIENT, expired).0)),
        ("not valid yet", Some(bed.authority.issue(CLIENT, early).0)),
        ("another root", Some(stranger.issue(CLIENT, now()).0)),
    ] {
        assert_eq!(
            knock(&server, config(key, TLS13), connect(to)).await,
            None,
            "{what}"
        );
    }
}

#[tokio::test]
async fn requests_that_are_no_tunnel_to_this_pod_are_answered_400() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    let other = bed.pod("node-1", "other");
    let elsewhere = application(&other, echo).await;
    let key = bed.authority.issue(CLIENT, now()).0;
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
        let status = knock(&server, config(Some(Arc::clone(&key)), TLS13), request).await;
        assert_eq!(status, Some(StatusCode::BAD_REQUEST), "{what}");
    }
}

#[tokio::test]
async fn an_application_that_is_not_there_is_answered_503() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let key = bed.authority.issue(CLIENT, now()).0;
    let status = knock(&server, config(Some(key), TLS13), connect(server.at(9))).await;
    assert_eq!(status, Some(StatusCode::SERVICE_UNAVAILABLE));
}

#[tokio::test]
async fn a_peer_that_is_someone_else_never_gets_a_byte() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let wrong = [
        bed.authority.certificate_that_says(
            &identity("server"),
            "spiffe://cluster.local/ns/default/sa/other",
        ),
        Authority::new().certificate(&identity("server")),
    ];
    for certificate in wrong {
        let server = bed.pod_with("node-2", "server", certificate);
        let to = application(&server, echo).await;
        let mut stream = client.connect(to).await.unwrap();
        let _ = stream.write_all(b"secret").await;
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1]))
            .await
            .unwrap();
        assert!(!matches!(read, Ok(1..)), "{read:?}");
        assert_eq!(server.dials(to.port()), 0);
    }
    // The client sees the end before it is recorded.
    let node = Arc::clone(&bed.node("node-1").node);
    wait_until("two TLS failures counted", || {
        node.telemetry
            .encode()
            .unwrap()
            .contains("response_flags=\"TLS_FAILURE\"} 2")
    })
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
    let node = Arc::clone(&bed.node("node-1").node);
    wait_until("a refusal counted", || {
        node.telemetry
            .encode()
            .unwrap()
            .contains("response_flags=\"DENY\"} 1")
    })
    .await;
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
