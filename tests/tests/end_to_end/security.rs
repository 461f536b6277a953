//! Who may connect: strict workloads, and clients that are not what they should be.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use weft_tests::access_log::AccessRecord;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::Mesh;

use super::{LIMIT, at, curl, serve_web, shop};

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

#[test]
fn strict_refuses_plaintext_and_serves_the_mesh() {
    let mut mesh = shop().strict().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for pod in ["web-1", "web-2"] {
        let to = at(&mesh, pod, 8080);
        curl(&mesh, "client", to).unwrap();
        curl(&mesh, "outside", to).unwrap_err();
    }
    let denied = |record: &AccessRecord| record.flags == "DENY" && record.direction == "inbound";
    mesh.wait_record(1, denied).unwrap();
    mesh.wait_record(2, denied).unwrap();
}

#[test]
fn strict_still_answers_processes_of_its_own_node() {
    let mut mesh = shop().strict().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    // As kubelet probes: from the node's namespace, outside every pod's cgroup.
    for (pod, node) in [("web-1", 1), ("web-2", 2)] {
        let url = format!("http://{}/", at(&mesh, pod, 8080));
        let line = ["curl", "-sS", "--fail", "--max-time", "10", &url];
        let place = mesh.topology().node(node).unwrap().host.place().clone();
        place.output(&line, LIMIT).unwrap();
        // The other node's processes are the network, not the node.
        let other = mesh.topology().node(3 - node).unwrap().host.place().clone();
        assert!(
            other.output(&line, LIMIT).is_err(),
            "{pod} answered another node"
        );
    }
}

#[test]
fn turning_strict_cuts_plaintext_that_is_open_and_keeps_tunnels() {
    let mut mesh = shop().start().unwrap();
    mesh.serve("web-2", &["echo", "--listen", "[::]:9500"])
        .unwrap();
    let to = format!("--to={}", at(&mesh, "web-2", 9500));
    let line = ["hold", &to, "--connections=5", "--wait"];
    let holders = ["outside", "client"].map(|pod| mesh.spawn(pod, &line).unwrap());
    let open = |mesh: &Mesh| {
        let open = mesh.agent_get(2, "/connections").unwrap();
        let inbound = serde_json::from_str::<Vec<serde_json::Value>>(&open).unwrap();
        let of = |security: &str| inbound.iter().filter(|c| c["security"] == security).count();
        (of("plaintext"), of("mutual_tls"))
    };
    weft_tests::wait_until("all are open", LIMIT, || open(&mesh) == (5, 5)).unwrap();
    mesh.apply_pod(PodSpec::new("web-2", 2).label("app", "web").strict())
        .unwrap();
    weft_tests::wait_until("plaintext is cut", LIMIT, || open(&mesh) == (0, 5)).unwrap();
    drop(holders);
}

#[test]
fn only_a_valid_certificate_of_the_trust_domain_opens_a_tunnel() {
    let mut mesh = shop().strict().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let (to, now) = (at(&mesh, "web-1", 8080), SystemTime::now());
    let long_ago = now - Duration::from_secs(7200);
    assert_eq!(knock(&mesh, CLIENT, now, to), Some(200), "the control");
    let stranger = "spiffe://elsewhere.example/ns/default/sa/client";
    for (what, name, from) in [
        ("another trust domain", stranger, now),
        ("an expired certificate", CLIENT, long_ago),
        (
            "no SPIFFE ID of a workload",
            "spiffe://cluster.local/client",
            now,
        ),
        (
            "another scheme",
            "https://cluster.local/ns/default/sa/client",
            now,
        ),
    ] {
        assert_eq!(knock(&mesh, name, from, to), None, "{what} came in");
    }
    for (what, authority) in [
        ("another pod", at(&mesh, "web-2", 8080)),
        ("loopback", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
        (
            "the node",
            (mesh.topology().node(1).unwrap().host.ipv4(), 8080).into(),
        ),
    ] {
        assert_eq!(
            knock_for(&mesh, CLIENT, now, to, authority),
            Some(400),
            "{what}"
        );
    }
}

/// Opens a tunnel from the pod outside the mesh with a certificate that the mesh's
/// own root has signed; the status, or `None` when the handshake failed.
fn knock(mesh: &Mesh, name: &str, from: SystemTime, to: SocketAddr) -> Option<u16> {
    knock_for(mesh, name, from, to, to)
}

fn knock_for(
    mesh: &Mesh,
    name: &str,
    from: SystemTime,
    to: SocketAddr,
    authority: SocketAddr,
) -> Option<u16> {
    let config = config(mesh, name, from);
    let outside = mesh.pod("outside").unwrap().host.namespace();
    let attempt = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let tunnel = tunnel(config, to, authority);
            tokio::time::timeout(LIMIT, tunnel)
                .await
                .expect("neither answered nor refused")
        })
    };
    outside.run(attempt).unwrap()
}

async fn tunnel(config: ClientConfig, to: SocketAddr, authority: SocketAddr) -> Option<u16> {
    let tcp = tokio::net::TcpStream::connect((to.ip(), 15008))
        .await
        .unwrap();
    let name = IpAddr::from(Ipv4Addr::UNSPECIFIED).into();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = tls.connect(name, tcp).await.ok()?;
    let (requests, connection) = h2::client::handshake(tls).await.ok()?;
    tokio::spawn(connection);
    let request = http::Request::connect(authority.to_string())
        .body(())
        .unwrap();
    let (response, _body) = requests
        .ready()
        .await
        .ok()?
        .send_request(request, false)
        .ok()?;
    Some(response.await.ok()?.status().as_u16())
}

fn config(mesh: &Mesh, name: &str, from: SystemTime) -> ClientConfig {
    let file = |name: &str| fs::read_to_string(mesh.state_directory().join("ca").join(name));
    let root_key = KeyPair::from_pem(&file("root-key.pem").unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&file("root.pem").unwrap(), root_key).unwrap();
    let (key, mut leaf) = (KeyPair::generate().unwrap(), CertificateParams::default());
    leaf.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    leaf.not_before = (from - Duration::from_secs(60)).into();
    leaf.not_after = (from + Duration::from_secs(3600)).into();
    let leaf = leaf.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::from(
        PrivatePkcs8KeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    );
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_auth_cert(vec![leaf], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The client trusts everybody: what is tested is whom the server trusts.
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
