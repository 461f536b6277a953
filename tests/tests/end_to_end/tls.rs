//! A client and a server that speak HBONE with any certificate one likes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use time::OffsetDateTime;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_tests::mesh::Mesh;
use weft_tests::netns::Namespace;

const LIMIT: Duration = Duration::from_secs(20);

/// Who signs.
pub(crate) struct Authority(Issuer<'static, KeyPair>);

/// What a certificate says.
#[derive(Clone)]
pub(crate) struct Leaf {
    name: SanType,
    hours: (i64, i64),
}

/// What an end of a connection presents.
pub(crate) struct Presented(Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>);

impl Presented {
    /// No certificate at all.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }
}

impl Leaf {
    /// Of a workload with that identity, valid now.
    pub(crate) fn of(uri: &str) -> Self {
        Self {
            name: SanType::URI(uri.try_into().unwrap()),
            hours: (-1, 1),
        }
    }

    /// Of something with a DNS name only.
    pub(crate) fn of_dns(name: &str) -> Self {
        Self {
            name: SanType::DnsName(name.try_into().unwrap()),
            hours: (-1, 1),
        }
    }

    /// Valid from and until, in hours from now.
    pub(crate) fn valid_hours(self, from: i64, until: i64) -> Self {
        Self {
            hours: (from, until),
            ..self
        }
    }
}

impl Authority {
    /// The one that the mesh trusts.
    pub(crate) fn of(mesh: &Mesh) -> Self {
        let path = mesh.state_directory().join("ca/root-key.pem");
        let pem = std::fs::read_to_string(path).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = KeyPair::try_from(&key).unwrap();
        // Its certificate stands before it.
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        Self(issuer)
    }

    /// One that nobody knows.
    pub(crate) fn stranger() -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(Issuer::new(root, KeyPair::generate().unwrap()))
    }

    pub(crate) fn sign(&self, leaf: &Leaf) -> Presented {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![leaf.name.clone()];
        let at = |hours| OffsetDateTime::now_utc() + time::Duration::hours(hours);
        (params.not_before, params.not_after) = (at(leaf.hours.0), at(leaf.hours.1));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Presented(Some((certificate.der().clone(), key)))
    }
}

/// Opens a tunnel from inside a namespace, sends a text and reads as much back.
///
/// The error says what was refused: the status, or how the connection ended.
pub(crate) fn open_tunnel(
    namespace: &Namespace,
    gateway: SocketAddr,
    presented: &Presented,
    to: SocketAddr,
    text: &str,
) -> Result<String, String> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let opened = tokio::time::timeout(LIMIT, tunnel(gateway, presented, to, text)).await;
            opened.map_err(|_| "nothing happened in time".to_owned())?
        })
    };
    namespace.run(work).unwrap()
}

async fn tunnel(
    gateway: SocketAddr,
    presented: &Presented,
    to: SocketAddr,
    text: &str,
) -> Result<String, String> {
    let failed =
        |what: &'static str| move |error: &dyn std::fmt::Display| format!("{what}: {error}");
    let tcp = tokio::net::TcpStream::connect(gateway)
        .await
        .map_err(|e| failed("connect")(&e))?;
    let connector = TlsConnector::from(Arc::new(client_config(presented)));
    let name = ServerName::IpAddress(gateway.ip().into());
    let tls = connector
        .connect(name, tcp)
        .await
        .map_err(|e| failed("TLS")(&e))?;
    let (mut requests, connection) = h2::client::handshake(tls)
        .await
        .map_err(|e| failed("HTTP/2")(&e))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(to.to_string())
        .body(())
        .unwrap();
    let (response, mut stream) = requests
        .send_request(request, false)
        .map_err(|e| failed("CONNECT")(&e))?;
    let response = response.await.map_err(|e| failed("response")(&e))?;
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status()));
    }
    stream
        .send_data(Bytes::copy_from_slice(text.as_bytes()), true)
        .map_err(|e| failed("send")(&e))?;
    let (mut body, mut answer) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.map_err(|e| failed("receive")(&e))?;
        let _ = body.flow_control().release_capacity(data.len());
        answer.extend_from_slice(&data);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn client_config(presented: &Presented) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyServer(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &presented.0 {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// It is the server that is tested, so the client believes everything.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
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
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Serves HBONE in a namespace, on a thread of its own for as long as the test runs:
/// each tunnel gets the answer, as if an application had sent it.
pub(crate) fn serve_tunnels(
    namespace: &Namespace,
    gateway: SocketAddr,
    presented: &Presented,
    answer: &'static str,
) {
    let listener = namespace
        .run(|| std::net::TcpListener::bind(gateway))
        .unwrap()
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let (certificate, key) = presented.0.as_ref().unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                // A client that goes away is what the test is about.
                tokio::spawn(async move { drop(serve(acceptor, stream, answer).await) });
            }
        });
    });
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
    answer: &'static str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let tls = acceptor.accept(stream).await?;
    let mut connection = h2::server::handshake(tls).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        tokio::spawn(async move {
            let mut stream = respond.send_response(http::Response::new(()), false)?;
            // As an application does: the answer comes after the question.
            let mut question = request.into_body();
            question.data().await;
            stream.send_data(Bytes::from_static(answer.as_bytes()), true)?;
            while question.data().await.is_some() {}
            Ok::<_, h2::Error>(())
        });
    }
    Ok(())
}
