//! The server of the fake control plane.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

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
use weft_proto::v1::{DiscoveryRequest, DiscoveryResponse, SignRequest, SignResponse};

use super::signing::Signing;
use super::stream::DiscoveryStream;
use crate::authority::{Authority, Credential, Leaf};
use crate::wait::in_time;

/// The name in its certificate.
pub const SERVER_NAME: &str = "weft-control-plane";

/// The token of its agent at the start.
const FIRST_TOKEN: &str = "first-token";

/// A control plane on loopback, on a runtime of its own so that killing it cuts every
/// connection.
#[derive(Debug)]
pub struct FakeControlPlane {
    directory: TempDir,
    address: SocketAddr,
    streams: mpsc::Receiver<DiscoveryStream>,
    service: Arc<Service>,
    credential: Credential,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Service {
    authority: Authority,
    streams: mpsc::Sender<DiscoveryStream>,
    signing: Mutex<Signing>,
    sign_requests: Mutex<usize>,
    /// The only one that may ask about rate limits.
    accepted_token: Mutex<String>,
}

impl FakeControlPlane {
    /// One that signs correctly, and whose agent has a token that it accepts.
    pub async fn start() -> Self {
        let (sender, streams) = mpsc::channel(16);
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("root.pem"), authority.root_pem()).unwrap();
        let credential = authority.issue(&Leaf::server(SERVER_NAME));
        let mut server = Self {
            directory,
            address: "127.0.0.1:0".parse().unwrap(),
            streams,
            service: Arc::new(Service {
                authority,
                streams: sender,
                signing: Mutex::new(Signing::Correctly(3600)),
                sign_requests: Mutex::default(),
                accepted_token: Mutex::default(),
            }),
            credential,
            runtime: None,
        };
        server.replace_token(FIRST_TOKEN);
        server.serve().await;
        server
    }

    /// Serves again, on the port that it had.
    pub async fn serve(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let listener = listener.into_std().unwrap();
        let (certificate, key) = (&self.credential.certificate_pem, &self.credential.key_pem);
        let identity = Identity::from_pem(certificate, key);
        let service = Arc::clone(&self.service);
        let runtime = Runtime::new().unwrap();
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

    /// Stops at once and cuts every connection.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// The next stream that an agent opens.
    pub async fn stream(&mut self) -> DiscoveryStream {
        in_time(self.streams.recv()).await.unwrap()
    }

    /// Its address, as an agent is told it.
    pub fn address(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authority that its own certificate and those of workloads are from.
    pub fn authority(&self) -> &Authority {
        &self.service.authority
    }

    /// PEM file with the roots that agents trust.
    pub fn root_file(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// File with the agent's token.
    pub fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// From now on it signs so.
    pub fn set_signing(&self, signing: Signing) {
        *self.service.signing.lock().unwrap() = signing;
    }

    /// Requests for certificates so far.
    pub fn sign_requests(&self) -> usize {
        *self.service.sign_requests.lock().unwrap()
    }

    /// Accepts no other token from now on, in questions about rate limits.
    pub fn accept_token(&self, token: &str) {
        token.clone_into(&mut self.service.accepted_token.lock().unwrap());
    }

    /// Puts a new token into the agent's file, and accepts the one before no more, as
    /// Kubernetes does.
    pub fn replace_token(&self, token: &str) {
        fs::write(self.token_file(), format!("{token}\n")).unwrap();
        self.accept_token(token);
    }
}

impl Drop for FakeControlPlane {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tonic::async_trait]
impl Discovery for Service {
    type StreamStream = Pin<Box<ReceiverStream<Result<DiscoveryResponse, Status>>>>;

    async fn stream(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let (responses, stream) = mpsc::channel(16);
        let opened = DiscoveryStream {
            authorization: authorization.unwrap_or_default(),
            requests: request.into_inner(),
            responses,
        };
        self.streams.send(opened).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

#[tonic::async_trait]
impl Certificates for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        if !request.metadata().contains_key("authorization") {
            return Err(Status::unauthenticated("no token"));
        }
        *self.sign_requests.lock().unwrap() += 1;
        let signing = *self.signing.lock().unwrap();
        let request = request.into_inner().certification_request;
        signing.answer(&self.authority, &request).map(Response::new)
    }
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let accepted = format!("Bearer {}", self.accepted_token.lock().unwrap());
        let authorization = request.metadata().get("authorization");
        if authorization.is_none_or(|value| *value != *accepted) {
            return Err(Status::unauthenticated("no good token"));
        }
        Ok(Response::new(RateLimitResponse {
            overall_code: rate_limit_response::Code::Ok.into(),
            ..RateLimitResponse::default()
        }))
    }
}
