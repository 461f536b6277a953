//! `Discovery.Stream`: resources, incrementally, one stream per agent or sidecar.

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
    NodeCapture, Subscribe,
};

use super::authentication::{self, Authenticator, PodPrincipal, Principal};
use super::node_limit::NodeLimit;
use super::subscriber::Subscriber;
use crate::agents::{self, Agents};
use crate::captures::{CaptureReport, Captures, PodCaptureState, Recorded};
use crate::cluster::{Cluster, SidecarPod};
use crate::key_sets::KeySets;
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
    pub(crate) key_sets: Arc<KeySets>,
    /// Streams of each node, and of each pod with a sidecar.
    pub(crate) streams: Arc<NodeLimit>,
    /// Turns true when the process ends.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Streams that a node may have open: its agent's, and those that it has lost and that we haven't
/// noticed yet.
pub(crate) const MOST_STREAMS: usize = 8;
/// The most pods that a node may report as captured over one stream.
const MOST_CAPTURED: usize = 10_000;
/// Longest UID of a pod, in bytes; in a directory it is namespace and name.
const LONGEST_UID: usize = 512;
/// Longest reason of a failure that is kept, in characters.
const LONGEST_REASON: usize = 1000;

type Responses = mpsc::Sender<Result<DiscoveryResponse, Status>>;

#[tonic::async_trait]
impl Discovery for DiscoveryService {
    type StreamStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream(
        &self,
        call: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let agent = AgentStream {
            subscriber: self.subscriber(self.authenticator.principal(&call).await?)?,
            cluster: Arc::clone(&self.cluster),
            agents: Arc::clone(&self.agents),
            captures: Arc::clone(&self.captures),
            key_sets: Arc::clone(&self.key_sets),
        };
        let token = authentication::token(&call)?.to_owned();
        let authenticator = self.authenticator.clone();
        let (responses, stream) = mpsc::channel(WAITING);
        let mut stopping = self.stopping.clone();
        let requests = call.into_inner();
        let share = self.streams.take(agent.subscriber.name()).ok_or_else(|| {
            let message = format!("a node or a pod has no more than {MOST_STREAMS} streams");
            Status::resource_exhausted(message)
        })?;
        tokio::spawn(async move {
            let _share = share;
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
        match authenticator.principal_of(token).await {
            // Whoever can't be asked has not refused.
            Err(status) if status.code() != Code::Unavailable => return status,
            Ok(_) | Err(_) => {}
        }
    }
}

/// The stream of one agent or sidecar.
struct AgentStream {
    subscriber: Subscriber,
    cluster: Arc<Cluster>,
    agents: Arc<Agents>,
    captures: Arc<Captures>,
    key_sets: Arc<KeySets>,
}

impl AgentStream {
    fn opened(&self) {
        let name = self.subscriber.name();
        self.agents.stream_opened(name);
        match &self.subscriber {
            Subscriber::Agent { node } => self.captures.stream_opened(node),
            Subscriber::Sidecar { node, uid, .. } => {
                self.captures.sidecar_stream_opened(node, uid);
            }
        }
        tracing::info!(agent = name, "agent connected");
    }

    fn closed(&self, ended: &Result<(), Status>) {
        let name = self.subscriber.name();
        match &self.subscriber {
            Subscriber::Agent { .. } => self.agents.stream_closed(name),
            Subscriber::Sidecar { .. } => self.agents.sidecar_stream_closed(name),
        }
        match ended {
            Ok(()) => tracing::info!(agent = name, "agent disconnected"),
            Err(status) => {
                tracing::warn!(
                    agent = name,
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
        let node_capture = subscribe.node_capture.clone();
        let cursor = authorize_subscription(&self.subscriber, subscribe)?;
        if let Some(trial) = node_capture {
            self.node_tried(&trial);
        }
        tokio::select! {
            sent = self.send(cursor, responses) => sent,
            received = self.receive(requests) => received,
        }
    }

    /// What an agent says of its node; a pod's sidecar has no say in that.
    fn node_tried(&self, trial: &NodeCapture) {
        let Subscriber::Agent { node } = &self.subscriber else {
            return;
        };
        if !trial.capable {
            let reason: String = trial.reason.chars().take(LONGEST_REASON).collect();
            tracing::warn!(
                node,
                reason,
                "the node can't capture: pods there need sidecars"
            );
        }
        self.captures.node_tried(node, trial.capable);
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
                    self.agents.response_sent(self.subscriber.name(), &response);
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
                Some(Message::Keys(request)) => self.key_sets.request(&request.sources),
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
                agent = self.subscriber.name(),
                name = agents::label(rejection.kind(), &rejection.name),
                reason = rejection.reason,
                "an agent rejected a resource"
            );
        }
        let name = self.subscriber.name();
        self.agents.response_acknowledged(name, answer);
    }

    fn record_captures(
        &self,
        report: ReportMessage,
        captured: &mut HashSet<WorkloadUid>,
    ) -> Result<(), Status> {
        let name = self.subscriber.name();
        let report = parse_report(self.subscriber.node(), report, captured)?;
        let Recorded { report, foreign } = match &self.subscriber {
            Subscriber::Agent { .. } => self.captures.record(report),
            Subscriber::Sidecar { uid, .. } => self.captures.record_sidecar(uid, report),
        };
        self.agents.pods_reported(name, &report);
        for uid in foreign {
            tracing::warn!(agent = name, %uid, "reported a pod that isn't its own; ignored");
        }
        for (uid, state) in &report.pods {
            if let PodCaptureState::Failed(why) = state {
                tracing::warn!(agent = name, %uid, why, "pod could not be captured");
            }
        }
        Ok(())
    }
}

impl DiscoveryService {
    /// The one that a stream is of.
    ///
    /// # Errors
    /// When there is no such pod, or its proxy is no sidecar.
    fn subscriber(&self, principal: Principal) -> Result<Subscriber, Status> {
        let PodPrincipal {
            name, uid: asked, ..
        } = match principal {
            Principal::Agent { node } => return Ok(Subscriber::Agent { node }),
            Principal::Sidecar(pod) => pod,
        };
        let known = self.cluster.sidecar_pod(&name);
        let known = known.filter(|known| asked.as_ref().is_none_or(|uid| *uid == known.uid));
        match known {
            Some(SidecarPod { uid, node }) => Ok(Subscriber::sidecar(name, uid, &node)),
            None if self.cluster.has_no_sidecar(&name, asked.as_ref()) => {
                Err(Status::permission_denied(format!(
                    "pod {name} has no container `weft-proxy`: the agent of its node serves it"
                )))
            }
            // It may become known in a moment.
            None => Err(Status::unavailable(format!(
                "pod {name} is not known as one with a container `weft-proxy`; a pod without is \
                 served by the agent of its node"
            ))),
        }
    }
}

fn authorize_subscription(subscriber: &Subscriber, subscribe: Subscribe) -> Result<Cursor, Status> {
    subscriber.authorize(&subscribe)?;
    let kinds: HashSet<_> = subscribe.kinds().collect();
    if kinds.is_empty() {
        return Err(Status::invalid_argument(
            "a Subscribe names at least one kind",
        ));
    }
    Ok(Cursor::new(subscriber.view(), kinds, subscribe.held))
}

/// Reads a report. `captured` collects all pods that the stream has reported as captured,
/// for the report that completes the list.
fn parse_report(
    node: &str,
    report: ReportMessage,
    captured: &mut HashSet<WorkloadUid>,
) -> Result<CaptureReport, Status> {
    let mut pods = Vec::new();
    for mut pod in report.pods {
        if pod.workload_uid.len() > LONGEST_UID {
            return Err(Status::invalid_argument("no pod has such a UID"));
        }
        if let Some((end, _)) = pod.reason.char_indices().nth(LONGEST_REASON) {
            pod.reason.truncate(end);
        }
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
        if captured.len() > MOST_CAPTURED {
            let message = format!("a node has no more than {MOST_CAPTURED} pods");
            return Err(Status::resource_exhausted(message));
        }
        pods.push((uid, state));
    }
    Ok(CaptureReport {
        node: node.to_owned(),
        pods,
        complete: report.complete.then(|| captured.clone()),
    })
}

#[cfg(test)]
mod tests {
    use weft_proto::v1::PodCapture;

    use super::*;

    fn report(pods: impl Iterator<Item = (String, String)>) -> ReportMessage {
        let pods = pods.map(|(workload_uid, reason)| PodCapture {
            workload_uid,
            state: match reason.is_empty() {
                true => CaptureState::Captured.into(),
                false => CaptureState::Failed.into(),
            },
            reason,
        });
        ReportMessage {
            pods: pods.collect(),
            complete: false,
        }
    }

    #[test]
    fn a_report_is_bounded_in_what_it_names_and_in_what_it_says() {
        let mut captured = HashSet::new();
        let long = report([("u".to_owned(), "\u{e4}".repeat(5000))].into_iter());
        let read = parse_report("n", long, &mut captured).unwrap();
        let (_, PodCaptureState::Failed(why)) = &read.pods[0] else {
            panic!("{read:?}");
        };
        assert_eq!(why.chars().count(), LONGEST_REASON);
        let name = report([("u".repeat(LONGEST_UID + 1), String::new())].into_iter());
        assert!(parse_report("n", name, &mut captured).is_err());
        let many =
            |from: usize| report((from..from + 6000).map(|n| (n.to_string(), String::new())));
        assert!(parse_report("n", many(0), &mut captured).is_ok());
        let refused = parse_report("n", many(6000), &mut captured).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
}
