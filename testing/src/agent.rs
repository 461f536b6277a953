//! An agent, as a control plane knows it: one connection, one token, any stream.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Error};
use tonic::{Request, Status, Streaming};
use weft_proto::v1::certificates_client::CertificatesClient;
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::discovery_request::Request as Message;
use weft_proto::v1::{
    Acknowledge, CaptureReport, CaptureState, DiscoveryRequest, DiscoveryResponse, NodeCapture,
    PodCapture, Rejection, Resource, ResourceVersion, SignRequest, SignResponse, Subscribe,
    Workload, resource,
};

use crate::authority::certificate_request;
use crate::resources::all_kinds;
use crate::wait::in_time;

/// An agent that is connected to a control plane.
#[derive(Clone, Debug)]
pub struct FakeAgent {
    channel: Channel,
    node: String,
    pod: String,
    token: Option<String>,
    node_capture: Option<NodeCapture>,
}

/// A discovery stream, from the agent's side.
#[derive(Debug)]
pub struct AgentStream {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

/// A secure connection to a control plane at `https://HOST:PORT` that proves this name by
/// these roots, PEM.
///
/// # Errors
/// When it doesn't, or can't be reached.
pub async fn connect(address: &str, server_name: &str, roots: &[u8]) -> Result<Channel, Error> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(roots))
        .domain_name(server_name);
    let endpoint = Channel::from_shared(address.to_owned()).unwrap();
    endpoint.tls_config(tls)?.connect().await
}

/// A call that carries a token.
pub fn authorized<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut call = Request::new(message);
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        call.metadata_mut().insert("authorization", value);
    }
    call
}

impl FakeAgent {
    /// The agent of a node, with its token if it has one.
    pub fn new(channel: Channel, node: &str, token: Option<&str>) -> Self {
        Self {
            channel,
            node: node.to_owned(),
            pod: String::new(),
            token: token.map(str::to_owned),
            node_capture: None,
        }
    }

    /// The same, saying of its node that it can capture, or can't for that reason.
    #[must_use]
    pub fn having_tried(self, failure: Option<&str>) -> Self {
        let node_capture = NodeCapture {
            capable: failure.is_none(),
            programs: Vec::new(),
            reason: failure.unwrap_or_default().to_owned(),
        };
        Self {
            node_capture: Some(node_capture),
            ..self
        }
    }

    /// The same as the sidecar of the pod with that UID.
    #[must_use]
    pub fn as_sidecar(self, pod: &str) -> Self {
        let pod = pod.to_owned();
        Self { pod, ..self }
    }

    /// Subscribes to everything.
    ///
    /// # Errors
    /// When the control plane refuses at once.
    pub async fn subscribe(&self) -> Result<AgentStream, Status> {
        self.resume(Vec::new()).await
    }

    /// Subscribes to everything, having these resources already.
    ///
    /// # Errors
    /// When the control plane refuses at once.
    pub async fn resume(&self, held: Vec<ResourceVersion>) -> Result<AgentStream, Status> {
        let (requests, stream) = mpsc::channel(16);
        let subscribe = Message::Subscribe(Subscribe {
            kinds: all_kinds(),
            held,
            node: self.node.clone(),
            workload_uid: self.pod.clone(),
            node_capture: self.node_capture.clone(),
        });
        send(&requests, subscribe).await;
        let call = self.authorized(ReceiverStream::new(stream));
        let mut client = DiscoveryClient::new(self.channel.clone());
        let responses = client.stream(call).await?.into_inner();
        Ok(AgentStream {
            requests,
            responses,
        })
    }

    /// Subscribes, which is refused.
    pub async fn refusal(&self) -> Status {
        match self.subscribe().await {
            Err(status) => status,
            Ok(mut stream) => stream.receive().await.unwrap_err(),
        }
    }

    /// Asks for a certificate with this URI, for a new key.
    ///
    /// # Errors
    /// When the control plane refuses.
    pub async fn sign(&self, uri: &str) -> Result<SignResponse, Status> {
        self.sign_request(certificate_request(uri)).await
    }

    /// Sends a certificate request.
    ///
    /// # Errors
    /// When the control plane refuses.
    pub async fn sign_request(&self, request: Vec<u8>) -> Result<SignResponse, Status> {
        let call = self.authorized(SignRequest {
            certification_request: request,
        });
        let mut client = CertificatesClient::new(self.channel.clone());
        Ok(client.sign(call).await?.into_inner())
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        authorized(message, self.token.as_deref())
    }
}

impl AgentStream {
    /// The next response; `None` at the stream's end.
    ///
    /// # Errors
    /// The status that the stream ended with.
    pub async fn receive(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        in_time(self.responses.message()).await
    }

    /// The next response, however long it takes; `None` at the stream's end.
    ///
    /// # Errors
    /// The status that the stream ended with.
    pub async fn receive_patiently(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        self.responses.message().await
    }

    /// The next response, which has to come.
    pub async fn response(&mut self) -> DiscoveryResponse {
        self.receive().await.unwrap().unwrap()
    }

    /// Receives until everything that there was has come.
    pub async fn synchronize(&mut self) -> Vec<Resource> {
        let mut all = Vec::new();
        loop {
            let response = self.response().await;
            all.extend(response.changed);
            if response.synchronized {
                return all;
            }
        }
    }

    /// Receives until a resource comes that is wanted.
    pub async fn changed(&mut self, wanted: impl Fn(&Resource) -> bool) -> Resource {
        loop {
            let response = self.response().await;
            if let Some(changed) = response.changed.into_iter().find(&wanted) {
                return changed;
            }
        }
    }

    /// Receives until a workload comes as it is wanted.
    pub async fn workload(&mut self, uid: &str, wanted: impl Fn(&Workload) -> bool) -> Workload {
        loop {
            for changed in self.response().await.changed {
                if let Some(resource::Resource::Workload(workload)) = changed.resource
                    && workload.uid == uid
                    && wanted(&workload)
                {
                    return workload;
                }
            }
        }
    }

    /// Receives until a resource of that name is removed.
    pub async fn removed(&mut self, name: &str) -> ResourceVersion {
        loop {
            let mut removed = self.response().await.removed.into_iter();
            if let Some(removed) = removed.find(|removed| removed.name == name) {
                return removed;
            }
        }
    }

    /// Number of resources that come before it is quiet for a while.
    pub async fn count_until_quiet(&mut self, quiet: Duration) -> usize {
        let mut count = 0;
        while let Ok(next) = tokio::time::timeout(quiet, self.responses.message()).await {
            let response = next.unwrap().unwrap();
            count += response.changed.len() + response.removed.len();
        }
        count
    }

    /// Sends any message.
    pub async fn send(&self, message: Message) {
        send(&self.requests, message).await;
    }

    /// Acknowledges a response, but for these resources.
    pub async fn acknowledge(&self, sequence: u64, rejected: Vec<Rejection>) {
        let acknowledge = Acknowledge { sequence, rejected };
        self.send(Message::Acknowledge(acknowledge)).await;
    }

    /// Reports one pod.
    pub async fn report(&self, uid: &str, state: CaptureState, reason: &str) {
        let pod = PodCapture {
            workload_uid: uid.to_owned(),
            state: state.into(),
            reason: reason.to_owned(),
        };
        let report = CaptureReport {
            pods: vec![pod],
            complete: false,
        };
        self.send(Message::Capture(report)).await;
    }

    /// Says that every pod was reported.
    pub async fn complete(&self) {
        let report = CaptureReport {
            pods: Vec::new(),
            complete: true,
        };
        self.send(Message::Capture(report)).await;
    }
}

async fn send(requests: &mpsc::Sender<DiscoveryRequest>, message: Message) {
    let request = DiscoveryRequest {
        request: Some(message),
    };
    requests.send(request).await.unwrap();
}
