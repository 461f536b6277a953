//! A control plane for tests: a real gRPC server over TLS on loopback that does
//! what the test says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use weft_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use weft_proto::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse, rate_limit_response,
};
use weft_proto::v1::certificates_server::{Certificates, CertificatesServer};
use weft_proto::v1::discovery_server::{Discovery, DiscoveryServer};
use weft_proto::v1::{self, SignRequest, SignResponse};

use super::connection::{ControlPlane, ControlPlaneOptions};

/// What the certificate authority answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Signing {
    /// What was asked for, alive for that many seconds.
    Correctly(i64),
    /// A certificate for another identity.
    ForAnotherIdentity,
    /// A certificate for another key.
    ForAnotherKey,
    /// Signed by a root that isn't in the answer.
    ByAnotherRoot,
    /// Bytes that are no certificate.
    Garbage,
    /// Nothing, politely.
    Empty,
    /// An error.
    Unavailable,
}

/// A stream that a client opened, from the server's side.
pub(crate) struct TestStream {
    pub(crate) authorization: String,
    pub(crate) requests: Streaming<v1::DiscoveryRequest>,
    pub(crate) responses: mpsc::Sender<Result<v1::DiscoveryResponse, Status>>,
}

impl TestStream {
    pub(crate) async fn request(&mut self) -> v1::discovery_request::Request {
        let next = tokio::time::timeout(Duration::from_secs(10), self.requests.message()).await;
        next.expect("the client sends nothing")
            .unwrap()
            .unwrap()
            .request
            .unwrap()
    }

    pub(crate) async fn subscribe(&mut self) -> v1::Subscribe {
        match self.request().await {
            v1::discovery_request::Request::Subscribe(subscribe) => subscribe,
            other => panic!("not a subscription: {other:?}"),
        }
    }

    pub(crate) async fn acknowledge(&mut self) -> v1::Acknowledge {
        loop {
            match self.request().await {
                v1::discovery_request::Request::Acknowledge(acknowledge) => return acknowledge,
                v1::discovery_request::Request::Capture(_) => {}
                other => panic!("not an acknowledgement: {other:?}"),
            }
        }
    }

    pub(crate) async fn capture(&mut self) -> v1::CaptureReport {
        loop {
            match self.request().await {
                v1::discovery_request::Request::Capture(report) => return report,
                v1::discovery_request::Request::Acknowledge(_) => {}
                other => panic!("not a capture report: {other:?}"),
            }
        }
    }

    pub(crate) async fn send(&self, response: v1::DiscoveryResponse) {
        self.responses.send(Ok(response)).await.unwrap();
    }
}

struct Authority {
    root: Issuer<'static, KeyPair>,
    root_der: Vec<u8>,
    stranger: Issuer<'static, KeyPair>,
    signing: Arc<Mutex<Signing>>,
    requests: Arc<Mutex<usize>>,
}

fn issuer() -> (Issuer<'static, KeyPair>, Vec<u8>, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).unwrap();
    let (der, pem) = (certificate.der().to_vec(), certificate.pem());
    (Issuer::new(parameters, key), der, pem)
}

impl Authority {
    fn sign(&self, request: &[u8]) -> Result<SignResponse, Status> {
        *self.requests.lock().unwrap() += 1;
        let signing = *self.signing.lock().unwrap();
        let chain = match signing {
            Signing::Unavailable => return Err(Status::unavailable("try again later")),
            Signing::Empty => vec![],
            Signing::Garbage => vec![b"not a certificate".to_vec()],
            _ => vec![self.leaf(request, signing)],
        };
        Ok(SignResponse {
            chain,
            roots: vec![self.root_der.clone()],
        })
    }

    fn leaf(&self, request: &[u8], signing: Signing) -> Vec<u8> {
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let life = if let Signing::Correctly(life) = signing {
            life
        } else {
            3600
        };
        let now = time::OffsetDateTime::now_utc();
        request.params.not_before = now - time::Duration::hours(1);
        request.params.not_after = now + time::Duration::seconds(life);
        request.params.distinguished_name = DistinguishedName::new();
        request.params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        if signing == Signing::ForAnotherIdentity {
            let other = "spiffe://cluster.local/ns/default/sa/admin"
                .try_into()
                .unwrap();
            request.params.subject_alt_names = vec![SanType::URI(other)];
        }
        let issuer = if signing == Signing::ByAnotherRoot {
            &self.stranger
        } else {
            &self.root
        };
        let leaf = if signing == Signing::ForAnotherKey {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            request.params.signed_by(&key, issuer)
        } else {
            request.signed_by(issuer)
        };
        leaf.unwrap().der().to_vec()
    }
}

struct Service {
    streams: mpsc::Sender<TestStream>,
    authority: Authority,
    /// Who may ask about rate limits.
    good_token: Mutex<String>,
}

#[tonic::async_trait]
impl Discovery for Service {
    type StreamStream = Pin<Box<ReceiverStream<Result<v1::DiscoveryResponse, Status>>>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let (responses, stream) = mpsc::channel(16);
        let requests = request.into_inner();
        let authorization = authorization.unwrap_or_default();
        self.streams
            .send(TestStream {
                authorization,
                requests,
                responses,
            })
            .await
            .unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

#[tonic::async_trait]
impl Certificates for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        if !request.metadata().contains_key("authorization") {
            return Err(Status::unauthenticated("no token"));
        }
        self.authority
            .sign(&request.into_inner().certification_request)
            .map(Response::new)
    }
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let good = format!("Bearer {}", self.good_token.lock().unwrap());
        let authorization = request.metadata().get("authorization");
        if authorization.is_none_or(|value| *value != *good) {
            return Err(Status::unauthenticated("no good token"));
        }
        Ok(Response::new(RateLimitResponse {
            overall_code: rate_limit_response::Code::Ok.into(),
            ..Default::default()
        }))
    }
}

/// The server, on a runtime of its own so that killing it cuts every connection.
pub(crate) struct TestServer {
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) signing: Arc<Mutex<Signing>>,
    /// Certificate requests so far.
    pub(crate) signed: Arc<Mutex<usize>>,
    streams: mpsc::Receiver<TestStream>,
    service: Arc<Service>,
    server_identity: (String, String),
    runtime: Option<Runtime>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let (root, root_der, root_pem) = issuer();
        let (stranger, _, _) = issuer();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let server = CertificateParams::new(vec!["weft-control-plane".to_owned()]).unwrap();
        let server = server.signed_by(&key, &root).unwrap();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("root.pem"), root_pem).unwrap();
        std::fs::write(directory.path().join("token"), "first-token\n").unwrap();
        let signing = Arc::new(Mutex::new(Signing::Correctly(3600)));
        let signed = Arc::default();
        let (sender, streams) = mpsc::channel(16);
        let (signing_too, requests) = (Arc::clone(&signing), Arc::clone(&signed));
        let authority = Authority {
            root,
            root_der,
            stranger,
            signing: signing_too,
            requests,
        };
        let mut server = Self {
            directory,
            address: "127.0.0.1:0".parse().unwrap(),
            signing,
            signed,
            streams,
            service: Arc::new(Service {
                streams: sender,
                authority,
                good_token: Mutex::new("first-token".to_owned()),
            }),
            server_identity: (server.pem(), key.serialize_pem()),
            runtime: None,
        };
        server.serve().await;
        server
    }

    /// Serves (again), on the port that it had.
    pub(crate) async fn serve(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let listener = listener.into_std().unwrap();
        let runtime = Runtime::new().unwrap();
        let identity = Identity::from_pem(&self.server_identity.0, &self.server_identity.1);
        let service = Arc::clone(&self.service);
        runtime.spawn(async move {
            let listener = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            Server::builder()
                .tls_config(ServerTlsConfig::new().identity(identity))
                .unwrap()
                .add_service(DiscoveryServer::from_arc(Arc::clone(&service)))
                .add_service(CertificatesServer::from_arc(Arc::clone(&service)))
                .add_service(RateLimitServiceServer::from_arc(service))
                .serve_with_incoming(listener)
                .await
        });
        self.runtime = Some(runtime);
    }

    /// The only token that may ask about rate limits from now on.
    pub(crate) fn good_token(&self, token: &str) {
        *self.service.good_token.lock().unwrap() = token.to_owned();
    }

    /// As Kubernetes does: the file has another one, and the one before is no good.
    pub(crate) fn replace_token(&self, token: &str) {
        std::fs::write(self.directory.path().join("token"), token).unwrap();
        self.good_token(token);
    }

    /// Stops at once and cuts every connection.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// The client's side of it.
    pub(crate) fn control_plane(&self) -> ControlPlane {
        self.control_plane_named("weft-control-plane")
    }

    pub(crate) fn control_plane_named(&self, server_name: &str) -> ControlPlane {
        ControlPlane::new(ControlPlaneOptions {
            address: format!("https://{}", self.address),
            server_name: server_name.into(),
            root_certificates: self.directory.path().join("root.pem"),
            token_file: self.directory.path().join("token"),
        })
        .unwrap()
    }

    /// The next stream that a client opens.
    pub(crate) async fn stream(&mut self) -> TestStream {
        let next = tokio::time::timeout(Duration::from_secs(20), self.streams.recv()).await;
        next.expect("no client opens a stream").unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}
