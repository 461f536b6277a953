//! The discovery stream: subscribes, applies what comes, reports captures, and
//! starts again when it breaks. Whatever happens to it, the proxy keeps serving
//! with the last good configuration.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_model::workload::WorkloadUid;
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::discovery_request::Request;
use weft_proto::v1::{self, ResourceKind};

use super::capture_reports::{self, CaptureReports, CapturedPods};
use super::resources::KnownResources;
use crate::control_plane::{Backoff, ControlPlane, ControlPlaneError, explain};
use crate::store::Store;

/// Shortest and longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// How long the control plane may take to accept a stream, or an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest response that is read. The control plane sends in batches far below.
const LARGEST_RESPONSE: usize = 64 << 20;
/// Answers that may wait for the control plane to read them.
const OUTGOING: usize = 64;

/// What the discovery client works on.
#[derive(Debug)]
pub struct DiscoveryOptions {
    /// The node that this proxy serves.
    pub node: Arc<str>,
    /// The one pod that it serves, where it is a sidecar.
    pub pod: Option<WorkloadUid>,
    /// The control plane to ask.
    pub control_plane: ControlPlane,
    /// The mesh that is kept up to date.
    pub store: Arc<Store>,
    /// The pods whose capture is reported.
    pub captures: CaptureReports,
    /// What the node lets an agent do, for the control plane to know.
    pub node_capture: Option<v1::NodeCapture>,
}

/// How things stand with the control plane.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryStatus {
    /// A stream is open.
    pub connected: bool,
    /// The whole configuration has been seen at least once since the start.
    pub synchronized: bool,
    /// When the last response came.
    pub last_response: Option<SystemTime>,
    /// Resources that can't be used, as `kind name: reason`. Each keeps its
    /// previous content.
    pub rejected: Vec<String>,
    /// Why the last stream ended or couldn't be opened.
    pub last_error: Option<String>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    #[error("{}", status(.0))]
    Refused(#[from] tonic::Status),
    #[error("the control plane closed the stream")]
    Closed,
    #[error("the control plane doesn't answer or read for {} s", PATIENCE.as_secs())]
    Stalled,
}

/// A status as an operator wants to read it: causes included, no debug output.
fn status(status: &tonic::Status) -> String {
    match status.code() {
        tonic::Code::Unauthenticated => {
            format!(
                "the control plane doesn't accept the token: {}",
                status.message()
            )
        }
        tonic::Code::PermissionDenied => {
            format!(
                "the token is not for this node or pod: {}",
                status.message()
            )
        }
        _ => match std::error::Error::source(status) {
            Some(source) => explain(source),
            None => format!("{}: {}", status.code(), status.message()),
        },
    }
}

/// Follows the control plane for ever. Cancel it by dropping the future.
pub async fn run(options: DiscoveryOptions, status: watch::Sender<DiscoveryStatus>) {
    let mut known = KnownResources::default();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let mut synchronized = false;
        let Err(error) = stream(&options, &mut known, &status, &mut synchronized).await;
        if synchronized {
            backoff.reset();
        }
        let delay = backoff.next_delay();
        let reason = error.to_string();
        let consequence = match status.borrow().synchronized {
            true => "serving with the last configuration",
            false => "no further pod is captured before it answers",
        };
        tracing::warn!(
            target: "discovery",
            %reason,
            retry_ms = delay.as_millis() as u64,
            "no control plane; {consequence}",
        );
        status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(reason);
        });
        tokio::time::sleep(delay).await;
    }
}

/// One stream, from subscription to its end.
async fn stream(
    options: &DiscoveryOptions,
    known: &mut KnownResources,
    status: &watch::Sender<DiscoveryStatus>,
    synchronized: &mut bool,
) -> Result<std::convert::Infallible, StreamError> {
    let (outgoing, mut incoming) = open(options, known).await?;
    tracing::info!(target: "discovery", node = %options.node, "connected to the control plane");
    status.send_modify(|status| status.connected = true);
    let mut captures = options.captures.subscribe();
    captures.mark_changed();
    let mut reported = CapturedPods::default();
    loop {
        tokio::select! {
            response = incoming.message() => {
                let response = response?.ok_or(StreamError::Closed)?;
                *synchronized |= response.synchronized;
                let acknowledge = apply(options, known, status, response);
                send(&outgoing, Request::Acknowledge(acknowledge)).await?;
            }
            // Never an error: `options` holds the sender.
            _ = captures.changed() => {
                let now = captures.borrow_and_update().clone();
                if let Some(report) = capture_reports::report(&reported, &now) {
                    send(&outgoing, Request::Capture(report)).await?;
                }
                reported = now;
            }
            sources = options.store.key_requests().next() => {
                let sources = sources.iter().map(ToString::to_string).collect();
                send(&outgoing, Request::Keys(v1::KeyRequest { sources })).await?;
            }
        }
    }
}

type Outgoing = mpsc::Sender<v1::DiscoveryRequest>;

async fn open(
    options: &DiscoveryOptions,
    known: &KnownResources,
) -> Result<(Outgoing, Streaming<v1::DiscoveryResponse>), StreamError> {
    let (outgoing, requests) = mpsc::channel(OUTGOING);
    let kinds = [
        ResourceKind::Workload,
        ResourceKind::Service,
        ResourceKind::Endpoint,
        ResourceKind::Route,
        ResourceKind::TrafficPolicy,
        ResourceKind::ExternalService,
        ResourceKind::Node,
        ResourceKind::NetworkPolicy,
        ResourceKind::AuthorizationPolicy,
        ResourceKind::RevocationList,
    ];
    let subscribe = v1::Subscribe {
        kinds: kinds.map(|kind| kind as i32).to_vec(),
        held: known.versions(),
        node: options.node.to_string(),
        workload_uid: options
            .pod
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        node_capture: options.node_capture.clone(),
    };
    send(&outgoing, Request::Subscribe(subscribe)).await?;
    let request = options
        .control_plane
        .request(ReceiverStream::new(requests))
        .await?;
    let mut client = DiscoveryClient::new(options.control_plane.channel())
        .max_decoding_message_size(LARGEST_RESPONSE);
    let response = tokio::time::timeout(PATIENCE, client.stream(request)).await;
    let incoming = response.map_err(|_| StreamError::Stalled)??.into_inner();
    Ok((outgoing, incoming))
}

async fn send(outgoing: &Outgoing, request: Request) -> Result<(), StreamError> {
    let request = v1::DiscoveryRequest {
        request: Some(request),
    };
    outgoing
        .send_timeout(request, PATIENCE)
        .await
        .map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => StreamError::Stalled,
            mpsc::error::SendTimeoutError::Closed(_) => StreamError::Closed,
        })
}

fn apply(
    options: &DiscoveryOptions,
    known: &mut KnownResources,
    status: &watch::Sender<DiscoveryStatus>,
    response: v1::DiscoveryResponse,
) -> v1::Acknowledge {
    let applied = known.apply(response);
    for rejection in &applied.acknowledge.rejected {
        tracing::error!(
            target: "discovery",
            kind = rejection.kind().as_str_name(),
            name = rejection.name,
            version = rejection.version,
            reason = rejection.reason,
            "rejected a resource; it keeps its previous content",
        );
    }
    if !applied.changes.is_empty() {
        options.store.apply(applied.changes);
    }
    status.send_modify(|status| {
        if applied.synchronized && !status.synchronized {
            tracing::info!(target: "discovery", "the whole configuration is here");
        }
        status.synchronized |= applied.synchronized;
        status.last_response = Some(SystemTime::now());
        status.last_error = None;
        let rejected = known.rejected();
        status.rejected = rejected
            .map(|one| format!("{} {}: {}", one.kind().as_str_name(), one.name, one.reason))
            .collect();
    });
    applied.acknowledge
}

#[cfg(test)]
mod tests;
