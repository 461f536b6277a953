//! An agent, as far as the control plane can tell.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, SanType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Status, Streaming};
use weft_proto::v1::certificates_client::CertificatesClient;
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::discovery_request::Request as Message;
use weft_proto::v1::{
    CaptureReport, CaptureState, DiscoveryRequest, DiscoveryResponse, PodCapture, Resource,
    ResourceKind, ResourceVersion, SignRequest, SignResponse, Subscribe, resource,
};

use crate::bed::{Bed, ControlPlane, LIMIT};

/// An agent with its token.
pub(crate) struct Agent {
    channel: Channel,
    node: String,
    token: String,
}

/// Its stream.
pub(crate) struct Stream {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Agent {
    pub(crate) async fn new(
        bed: &Bed,
        control_plane: &ControlPlane,
        node: &str,
        token: &str,
    ) -> Self {
        let connected = Self::trusting(&bed.roots(), control_plane, node, token).await;
        connected.unwrap()
    }

    /// One that knows these roots, PEM.
    pub(crate) async fn trusting(
        roots: &[u8],
        control_plane: &ControlPlane,
        node: &str,
        token: &str,
    ) -> Result<Self, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(roots))
            .domain_name("weft-control-plane.weft-system.svc");
        let address = format!("https://127.0.0.1:{}", control_plane.port);
        let endpoint = Channel::from_shared(address).unwrap().tls_config(tls)?;
        Ok(Self {
            channel: endpoint.connect().await?,
            node: node.to_owned(),
            token: token.to_owned(),
        })
    }

    fn call<T>(&self, message: T) -> Request<T> {
        let mut call = Request::new(message);
        let token = MetadataValue::try_from(format!("Bearer {}", self.token)).unwrap();
        call.metadata_mut().insert("authorization", token);
        call
    }

    /// Subscribes to everything.
    pub(crate) async fn subscribe(&self) -> Result<Stream, Status> {
        let (requests, stream) = mpsc::channel(16);
        let kinds = [
            ResourceKind::Workload,
            ResourceKind::Service,
            ResourceKind::Endpoint,
            ResourceKind::Route,
            ResourceKind::TrafficPolicy,
            ResourceKind::ExternalService,
        ];
        let subscribe = Message::Subscribe(Subscribe {
            kinds: kinds.map(i32::from).to_vec(),
            held: Vec::new(),
            node: self.node.clone(),
        });
        send(&requests, subscribe).await;
        let call = self.call(ReceiverStream::new(stream));
        let mut client = DiscoveryClient::new(self.channel.clone());
        let responses = client.stream(call).await?.into_inner();
        Ok(Stream {
            requests,
            responses,
        })
    }

    /// Subscribes, and says how that was refused.
    pub(crate) async fn refusal(&self) -> Status {
        match self.subscribe().await {
            Err(status) => status,
            Ok(mut stream) => stream.receive().await.unwrap_err(),
        }
    }

    /// Asks for a certificate.
    pub(crate) async fn sign(&self, identity: &str) -> Result<SignResponse, Status> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let request = params.serialize_request(&key).unwrap();
        let call = self.call(SignRequest {
            certification_request: request.der().to_vec(),
        });
        let mut client = CertificatesClient::new(self.channel.clone());
        Ok(client.sign(call).await?.into_inner())
    }
}

impl Stream {
    pub(crate) async fn receive(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        let next = tokio::time::timeout(LIMIT, self.responses.message()).await;
        next.expect("no response in time")
    }

    /// Receives until everything that there was has come.
    pub(crate) async fn synchronize(&mut self) -> Vec<weft_proto::v1::Resource> {
        let mut all = Vec::new();
        loop {
            let response = self.receive().await.unwrap().unwrap();
            all.extend(response.changed);
            if response.synchronized {
                return all;
            }
        }
    }

    /// Receives until a workload is told of in the wanted way.
    pub(crate) async fn workload(
        &mut self,
        uid: &str,
        wanted: impl Fn(&weft_proto::v1::Workload) -> bool,
    ) -> weft_proto::v1::Workload {
        loop {
            let response = self.receive().await.unwrap().unwrap();
            for changed in response.changed {
                if let Some(resource::Resource::Workload(workload)) = changed.resource
                    && workload.uid == uid
                    && wanted(&workload)
                {
                    return workload;
                }
            }
        }
    }

    /// Receives until a resource is told of that is wanted.
    pub(crate) async fn changed(&mut self, wanted: impl Fn(&Resource) -> bool) -> Resource {
        loop {
            let response = self.receive().await.unwrap().unwrap();
            if let Some(changed) = response.changed.into_iter().find(&wanted) {
                return changed;
            }
        }
    }

    /// Receives until a resource of that name is gone.
    pub(crate) async fn removed(&mut self, name: &str) -> ResourceVersion {
        loop {
            let response = self.receive().await.unwrap().unwrap();
            let mut removed = response.removed.into_iter();
            if let Some(removed) = removed.find(|removed| removed.name == name) {
                return removed;
            }
        }
    }

    /// How many resources come before it is quiet for a while.
    pub(crate) async fn count_until_quiet(&mut self, quiet: Duration) -> usize {
        let mut count = 0;
        while let Ok(next) = tokio::time::timeout(quiet, self.responses.message()).await {
            let response = next.unwrap().unwrap();
            count += response.changed.len() + response.removed.len();
        }
        count
    }

    /// Reports one pod.
    pub(crate) async fn report(&self, uid: &str, state: CaptureState, reason: &str) {
        let pods = vec![PodCapture {
            workload_uid: uid.to_owned(),
            state: state.into(),
            reason: reason.to_owned(),
        }];
        let complete = false;
        send(
            &self.requests,
            Message::Capture(CaptureReport { pods, complete }),
        )
        .await;
    }

    /// Says that these were all.
    pub(crate) async fn complete(&self) {
        let report = CaptureReport {
            pods: Vec::new(),
            complete: true,
        };
        send(&self.requests, Message::Capture(report)).await;
    }
}

async fn send(requests: &mpsc::Sender<DiscoveryRequest>, message: Message) {
    let request = DiscoveryRequest {
        request: Some(message),
    };
    requests.send(request).await.unwrap();
}
