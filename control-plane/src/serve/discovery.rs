//! `Discovery.Stream`: resources, incrementally, one stream per agent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_model::workload::WorkloadUid;
use weft_proto::v1::discovery_request::Request as Message;
use weft_proto::v1::discovery_server::Discovery;
use weft_proto::v1::{
    Acknowledge, CaptureReport, CaptureState, DiscoveryRequest, DiscoveryResponse, Subscribe,
};

use super::authentication;
use super::cursor::{Cursor, Next};
use crate::state::{Captured, State};

/// How long an agent may take to say what it wants.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Responses that wait for a slow agent; after that, it is told the latest state only,
/// however much changed meanwhile.
const WAITING: usize = 1;

/// The service.
pub(crate) struct DiscoveryService {
    pub(crate) state: Arc<State>,
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
        let node = authentication::node(&call)?;
        let (responses, stream) = mpsc::channel(WAITING);
        let (state, mut stopping) = (Arc::clone(&self.state), self.stopping.clone());
        let requests = call.into_inner();
        tokio::spawn(async move {
            state.agent(&node, |agent| agent.streams += 1);
            tracing::info!(node, "agent connected");
            let ended = tokio::select! {
                ended = serve(&state, &node, requests, &responses) => ended,
                _ = stopping.wait_for(|stopping| *stopping) => {
                    Err(Status::unavailable("the control plane is shutting down"))
                }
            };
            state.agent(&node, |agent| {
                agent.streams = agent.streams.saturating_sub(1)
            });
            match ended {
                Ok(()) => tracing::info!(node, "agent disconnected"),
                Err(status) => {
                    tracing::warn!(node, reason = status.message(), "agent's stream ended");
                    // The agent may be gone already.
                    let _ = responses.send(Err(status)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn serve(
    state: &State,
    node: &str,
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
    let cursor = accept_subscription(node, subscribe)?;
    let mut reported = HashSet::new();
    let send = send(state, node, cursor, responses);
    let receive = async {
        while let Some(request) = requests.message().await? {
            match request.request {
                Some(Message::Acknowledge(answer)) => acknowledge(state, node, answer),
                Some(Message::Capture(report)) => capture(state, node, report, &mut reported)?,
                Some(Message::Subscribe(_)) => {
                    return Err(Status::invalid_argument(
                        "a stream has one Subscribe, the first message",
                    ));
                }
                None => return Err(Status::invalid_argument("a message without content")),
            }
        }
        Ok(())
    };
    tokio::select! {
        sent = send => sent,
        received = receive => received,
    }
}

fn accept_subscription(node: &str, subscribe: Subscribe) -> Result<Cursor, Status> {
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

/// Sends what is different, whenever something is. A slow agent holds up nobody but
/// itself, and skips what is outdated by the time that it reads.
async fn send(
    state: &State,
    node: &str,
    mut cursor: Cursor,
    responses: &Responses,
) -> Result<(), Status> {
    let mut revision = state.revision();
    let mut sequence = 0;
    loop {
        revision.mark_unchanged();
        let next = cursor.next(&state.resources());
        match next.map_err(|error| Status::unavailable(error.to_string()))? {
            Next::Response(mut response) => {
                sequence += 1;
                response.sequence = sequence;
                state.sent(node, &response);
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

fn acknowledge(state: &State, node: &str, answer: Acknowledge) {
    state.agent(node, |agent| {
        agent.acknowledged = answer.sequence;
        for rejection in answer.rejected {
            let name = format!("{} {}", rejection.kind().as_str_name(), rejection.name);
            tracing::error!(
                node,
                name,
                reason = rejection.reason,
                "an agent rejected a resource"
            );
            agent.rejected.insert(name, rejection.reason);
        }
    });
}

/// A node says which of its pods are captured. `reported` collects the first, full
/// report of a stream.
fn capture(
    state: &State,
    node: &str,
    report: CaptureReport,
    reported: &mut HashSet<WorkloadUid>,
) -> Result<(), Status> {
    let mut pods = Vec::new();
    for pod in report.pods {
        let uid = WorkloadUid::from(pod.workload_uid.as_str());
        let captured = match pod.state() {
            CaptureState::Captured => Captured::Yes,
            CaptureState::Released => Captured::No,
            CaptureState::Failed => Captured::Failed(pod.reason),
            CaptureState::Unspecified => {
                return Err(Status::invalid_argument("a pod's capture has no state"));
            }
        };
        match captured {
            Captured::Yes => reported.insert(uid.clone()),
            Captured::No | Captured::Failed(_) => reported.remove(&uid),
        };
        pods.push((uid, captured));
    }
    state.report(node, &pods, report.complete.then_some(&*reported));
    Ok(())
}
