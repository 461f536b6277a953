//! A discovery stream that an agent opened, from the control plane's side.

use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use weft_proto::v1::discovery_request::Request;
use weft_proto::v1::{
    Acknowledge, CaptureReport, DiscoveryRequest, DiscoveryResponse, Resource, Subscribe,
};

use crate::wait::in_time;

/// A discovery stream that an agent opened, from the control plane's side. It ends when it
/// is dropped.
#[derive(Debug)]
pub struct DiscoveryStream {
    /// The `authorization` header that the agent sent.
    pub authorization: String,
    pub(super) requests: Streaming<DiscoveryRequest>,
    pub(super) responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
}

impl DiscoveryStream {
    /// The agent's next message.
    pub async fn request(&mut self) -> Request {
        let next = in_time(self.requests.message()).await;
        next.unwrap().unwrap().request.unwrap()
    }

    /// The agent's next message, which is its subscription.
    pub async fn subscribe(&mut self) -> Subscribe {
        match self.request().await {
            Request::Subscribe(subscribe) => subscribe,
            other => panic!("not a subscription: {other:?}"),
        }
    }

    /// The next acknowledgement.
    pub async fn acknowledge(&mut self) -> Acknowledge {
        loop {
            match self.request().await {
                Request::Acknowledge(acknowledge) => return acknowledge,
                Request::Capture(_) => {}
                other => panic!("not an acknowledgement: {other:?}"),
            }
        }
    }

    /// The next report of captured pods.
    pub async fn capture(&mut self) -> CaptureReport {
        loop {
            match self.request().await {
                Request::Capture(report) => return report,
                Request::Acknowledge(_) => {}
                other => panic!("not a capture report: {other:?}"),
            }
        }
    }

    /// Sends a response.
    pub async fn send(&self, response: DiscoveryResponse) {
        self.responses.send(Ok(response)).await.unwrap();
    }

    /// Sends the first response, with all that there is.
    pub async fn synchronize(&self, changed: Vec<Resource>) {
        self.send(DiscoveryResponse {
            sequence: 1,
            changed,
            synchronized: true,
            ..DiscoveryResponse::default()
        })
        .await;
    }

    /// Ends the stream with an error.
    pub async fn fail(self, status: Status) {
        self.responses.send(Err(status)).await.unwrap();
    }
}
