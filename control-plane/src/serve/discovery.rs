//! `Discovery.Stream`: resources, incrementally, one stream per agent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use weft_model::workload::WorkloadUid;
use weft_proto::v1::discovery_request::Request as Message;
use weft_proto::v1::discovery_server::Discovery;
use weft_proto::v1::{
    Acknowledge, CaptureReport as ReportMessage, CaptureState, DiscoveryRequest, DiscoveryResponse,
    Subscribe,
};

use super::authentication::{self, Authenticator};
use crate::agents::{self, Agents};
use crate::captures::{CaptureReport, Captures, PodCaptureState, Recorded};
use crate::cluster::Cluster;
use crate::publish::{Cursor, Next};

/// Time limit of an agent's Subscribe.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two reviews of the token of a stream.
const REVIEW_INTERVAL: Duration = Duration::from_secs(60);
/// Responses that wait for a slow agent; after that, it is told the latest state only,
/// however much changed meanwhile.
const WAITING: usize = 1;

/// The service.
pub(crate) struct DiscoveryService {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) captures: Arc<Captures>,
    pub(crate) authenticator: Authenticator,
    /// Turns true when the process ends.
    pub(crate) stopping: watch::Receiver<bool>,
}

type Responses = mpsc::Sender<Result<DiscoveryResponse, Status>>;

#[tonic::async_trait]
impl Discovery for DiscoveryService {
    type StreamStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream(
        &self,
        call: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let agent = AgentStream {
            node: self.authenticator.node(&call).await?,
            cluster: Arc::clone(&self.cluster),
            agents: Arc::clone(&self.agents),
            captures: Arc::clone(&self.captures),
        };
        let token = authentication::token(&call)?.to_owned();
        let authenticator = self.authenticator.clone();
        let (responses, stream) = mpsc::channel(WAITING);
        let mut stopping = self.stopping.clone();
        let requests = call.into_inner();
        tokio::spawn(async move {
            agent.opened();
            let ended = tokio::select! {
                ended = agent.serve(requests, &responses) => ended,
                status = no_longer_good(&authenticator, &token) => Err(status),
                _ = stopping.wait_for(|stopping| *stopping) => {
                    Err(Status::unavailable("the control plane is shutting down"))
                }
            };
            agent.closed(&ended);
            if let Err(status) = ended {
                // The agent may be gone already.
                let _ = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Asks again and again whether the token of a stream is still good; returns when it
/// isn't. An agent whose token has just expired comes back with a new one.
async fn no_longer_good(authenticator: &Authenticator, token: &str) -> Status {
    loop {
        tokio::time::sleep(REVIEW_INTERVAL).await;
        match authenticator.node_of(token).await {
            // Whoever can't be asked has not refused.
            Err(status) if status.code() != Code::Unavailable => return status,
            Ok(_) | Err(_) => {}
        }
    }
}

/// The stream of one agent, whose token is for that node.
struct AgentStream {
    node: String,
    cluster: Arc<Cluster>,
    agents: Arc<Agents>,
    captures: Arc<Captures>,
}

impl AgentStream {
    fn opened(&self) {
        self.agents.stream_opened(&self.node);
        self.captures.stream_opened(&self.node);
        tracing::info!(node = self.node, "agent connected");
    }

    fn closed(&self, ended: &Result<(), Status>) {
        self.agents.stream_closed(&self.node);
        match ended {
            Ok(()) => tracing::info!(node = self.node, "agent disconnected"),
            Err(status) => {
                tracing::warn!(
                    node = self.node,
                    reason = status.message(),
                    "agent's stream ended"
                );
            }
        }
    }

    async fn serve(
        &self,
        mut requests: Streaming<DiscoveryRequest>,
        responses: &Responses,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(SUBSCRIBE_TIMEOUT, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no Subscribe within 10 s"))?;
        let Some(first) = first? else { return Ok(()) };
        let Some(Message::Subscribe(subscribe)) = first.request else {
            return Err(Status::invalid_argument(
                "the first message must be a Subscribe",
            ));
        };
        let cursor = authorize_subscription(&self.node, subscribe)?;
        tokio::select! {
            sent = self.send(cursor, responses) => sent,
            received = self.receive(requests) => received,
        }
    }

    /// Sends what is different, whenever something is. A slow agent holds up nobody but
    /// itself, and skips what is outdated by the time that it reads.
    async fn send(&self, mut cursor: Cursor, responses: &Responses) -> Result<(), Status> {
        let mut revision = self.cluster.revision();
        let mut sequence = 0;
        loop {
            revision.mark_unchanged();
            let next = cursor.next(&self.cluster.resources());
            match next.map_err(|error| Status::unavailable(error.to_string()))? {
                Next::Response(mut response) => {
                    sequence += 1;
                    response.sequence = sequence;
                    self.agents.response_sent(&self.node, &response);
                    if responses.send(Ok(response)).await.is_err() {
                        return Ok(());
                    }
                }
                Next::Wait => {
                    if revision.changed().await.is_err() {
                        return Err(Status::unavailable("the control plane is shutting down"));
                    }
                }
            }
        }
    }

    async fn receive(&self, mut requests: Streaming<DiscoveryRequest>) -> Result<(), Status> {
        // What the first, full report of the stream has said so far.
        let mut captured = HashSet::new();
        while let Some(request) = requests.message().await? {
            match request.request {
                Some(Message::Acknowledge(answer)) => self.acknowledge(answer),
                Some(Message::Capture(report)) => self.record_captures(report, &mut captured)?,
                Some(Message::Subscribe(_)) => {
                    return Err(Status::invalid_argument(
                        "a stream has one Subscribe, the first message",
                    ));
                }
                None => return Err(Status::invalid_argument("a message without content")),
            }
        }
        Ok(())
    }

    fn acknowledge(&self, answer: Acknowledge) {
        for rejection in &answer.rejected {
            tracing::error!(
                node = self.node,
                name = agents::label(rejection.kind(), &rejection.name),
                reason = rejection.reason,
                "an agent rejected a resource"
            );
        }
        self.agents.response_acknowledged(&self.node, answer);
    }

    fn record_captures(
        &self,
        report: ReportMessage,
        captured: &mut HashSet<WorkloadUid>,
    ) -> Result<(), Status> {
        let node = &self.node;
        let report = parse_report(node, report, captured)?;
        let Recorded { report, foreign } = self.captures.record(report);
        self.agents.pods_reported(&report);
        for uid in foreign {
            tracing::warn!(node, %uid, "reported a pod of another node; ignored");
        }
        for (uid, state) in &report.pods {
            if let PodCaptureState::Failed(why) = state {
                tracing::warn!(node, %uid, why, "pod could not be captured");
            }
        }
        Ok(())
    }
}

fn authorize_subscription(node: &str, subscribe: Subscribe) -> Result<Cursor, Status> {
    if subscribe.node != node {
        return Err(Status::permission_denied(format!(
            "the token is for node {node}, but the agent says that it runs on {}",
            subscribe.node
        )));
    }
    let kinds: HashSet<_> = subscribe.kinds().collect();
    if kinds.is_empty() {
        return Err(Status::invalid_argument(
            "a Subscribe names at least one kind",
        ));
    }
    Ok(Cursor::new(kinds, subscribe.held))
}

/// Reads a report. `captured` collects all pods that the stream has reported as captured,
/// for the report that completes the list.
fn parse_report(
    node: &str,
    report: ReportMessage,
    captured: &mut HashSet<WorkloadUid>,
) -> Result<CaptureReport, Status> {
    let mut pods = Vec::new();
    for pod in report.pods {
        let uid = WorkloadUid::from(pod.workload_uid.as_str());
        let state = match pod.state() {
            CaptureState::Captured => PodCaptureState::Captured,
            CaptureState::Released => PodCaptureState::Released,
            CaptureState::Failed => PodCaptureState::Failed(pod.reason),
            CaptureState::Unspecified => {
                return Err(Status::invalid_argument("a pod's capture has no state"));
            }
        };
        match state {
            PodCaptureState::Captured => captured.insert(uid.clone()),
            PodCaptureState::Released | PodCaptureState::Failed(_) => captured.remove(&uid),
        };
        pods.push((uid, state));
    }
    Ok(CaptureReport {
        node: node.to_owned(),
        pods,
        complete: report.complete.then(|| captured.clone()),
    })
}
