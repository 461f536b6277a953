//! An agent as the control plane sees it: one connection, one stream, everything
//! acknowledged. What it is told is counted, not kept.

use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Streaming};
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::discovery_request::Request as Message;
use weft_proto::v1::{Acknowledge, DiscoveryRequest, DiscoveryResponse, ResourceKind, Subscribe};

/// What happened to an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// It has everything: so many resources.
    Synchronized { resources: usize },
    /// It was told of the endpoint that changes.
    Told { at: Instant },
}

/// Where the control plane is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) root: Vec<u8>,
}

/// Whom an agent speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) node: String,
    pub(crate) token: String,
}

/// Connects, subscribes and reports until the stream ends.
pub(crate) async fn run(
    target: Target,
    identity: Identity,
    watched: String,
    events: mpsc::UnboundedSender<Event>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&target.root))
        .domain_name("weft-control-plane");
    let channel = Channel::from_shared(target.address)?
        .tls_config(tls)?
        .connect()
        .await?;
    let (requests, stream) = mpsc::channel(4);
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
        node: identity.node,
    });
    requests.send(message(subscribe)).await?;
    let mut call = Request::new(ReceiverStream::new(stream));
    let token = MetadataValue::try_from(format!("Bearer {}", identity.token))?;
    call.metadata_mut().insert("authorization", token);
    let mut responses: Streaming<DiscoveryResponse> = DiscoveryClient::new(channel)
        .stream(call)
        .await?
        .into_inner();
    let (mut resources, mut synchronized) = (0, false);
    while let Some(response) = responses.message().await? {
        let at = Instant::now();
        resources += response.changed.len();
        if synchronized && response.changed.iter().any(|one| one.name == watched) {
            events.send(Event::Told { at })?;
        }
        if response.synchronized {
            synchronized = true;
            events.send(Event::Synchronized { resources })?;
        }
        let acknowledge = Message::Acknowledge(Acknowledge {
            sequence: response.sequence,
            rejected: Vec::new(),
        });
        requests.send(message(acknowledge)).await?;
    }
    Ok(())
}

fn message(request: Message) -> DiscoveryRequest {
    DiscoveryRequest {
        request: Some(request),
    }
}
