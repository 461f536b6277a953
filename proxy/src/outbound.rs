//! The way of a connection out of a pod: find out where it was going, decide how it
//! gets there, connect, carry, record.

mod destination;
mod dial;
mod outside;
mod routed;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;
use weft_model::OriginalDestination;
use weft_model::detect::protocol::DetectedProtocol;
use weft_model::egress::EgressMode;
use weft_model::mesh::{Candidate, Transport};
use weft_model::service::Service;
use weft_model::workload::Workload;

use self::destination::Destination;
use self::dial::carry;
pub(crate) use self::dial::{Upstream, dial};
use crate::connections::StillAllowed;
use crate::error::OutboundError;
use crate::http;
use crate::net::Net;
use crate::record::{self, Connection, Direction, Outcome, Party, Path, Security};
use crate::relay::{self, End, Progress};
use crate::resilience::{Attempt, Permit, Upstream as Way};
use crate::shared::{LocalPod, Shared};

/// What was decided about a connection before anything was done.
struct Plan {
    /// Where it may go.
    destination: Destination,
    /// Whether it may, and which place is chosen.
    way: Way,
}

impl Plan {
    fn still_allowed(&self) -> Option<StillAllowed> {
        let allowed = |now: &Workload| now.egress_mode == EgressMode::AllowAny;
        self.destination
            .is_unregistered
            .then(|| Box::new(allowed) as StillAllowed)
    }
}

/// What was connected, and what it took.
struct Connected<N> {
    upstream: Upstream<N>,
    candidate: Candidate,
    took: Duration,
    _attempt: Attempt,
    _permit: Permit,
}

/// Serves one captured connection to its end.
pub(crate) async fn serve<N: Net>(
    shared: Arc<Shared<N>>,
    pod: Arc<LocalPod<N>>,
    accepted: TcpStream,
    peer: SocketAddr,
    draining: watch::Receiver<bool>,
) {
    let began = Instant::now();
    let workload = pod.workload(&shared);
    let uid = &pod.started_as.uid;
    let original = match pod.net.original_destination(&accepted) {
        Ok(original) => original,
        Err(error) => {
            let connection = describe(&workload, peer, None, None, None);
            refuse(
                &shared,
                &pod,
                accepted,
                &connection,
                &OutboundError::NotCaptured(error),
                began,
            );
            return;
        }
    };
    let client = pod.address_like(original.address());
    let client = client.map_or(peer, |address| SocketAddr::new(address, peer.port()));
    let from = Downstream {
        client,
        original,
        accepted,
    };
    let (accepted, speculative) = match requests(&shared, &pod, from, draining).await {
        Spoken::Served => return,
        Spoken::Opaque(accepted) => (accepted, None),
        Spoken::ServerFirst(accepted, connected, first) => (accepted, Some((connected, first))),
    };
    let decided = decide(&shared, &pod, &workload, &accepted, original).await;
    let (plan, connected, first) = match (decided, speculative) {
        (Ok(plan), Some((connected, first))) => (Some(plan), Ok(*connected), first),
        (Ok(plan), None) => {
            let connected = connect(&shared, &pod, &plan, client).await;
            (Some(plan), connected, Bytes::new())
        }
        (Err(error), _) => (None, Err((error, None)), Bytes::new()),
    };
    let service = plan
        .as_ref()
        .and_then(|plan| plan.destination.service.as_deref());
    match connected {
        Ok(connected) => {
            let candidate = Some(&connected.candidate);
            let connection = describe(&workload, client, Some(original), candidate, service);
            let connection = Arc::new(connection);
            record::opened(&shared.metrics, uid, &connection);
            let allowed = plan.as_ref().and_then(Plan::still_allowed);
            let mut entry =
                shared
                    .connections
                    .enter(Arc::clone(&connection), uid, pod.proxy, allowed);
            let progress = Arc::clone(&entry.progress);
            let took = connected.took;
            let carried = match write_first(&accepted, &first).await {
                Ok(()) => carry(&shared, accepted, connected.upstream, &progress, &mut entry).await,
                Err(_) => Some(End::DownstreamReset),
            };
            let outcome = match carried {
                Some(end) => Outcome::ended(end, took),
                None => Outcome::cut(took),
            };
            record::closed(
                &shared.metrics,
                uid,
                &connection,
                &progress,
                &outcome,
                began,
            );
        }
        Err((error, candidate)) => {
            let candidate = candidate.as_ref();
            let mut connection = describe(&workload, client, Some(original), candidate, service);
            // Whoever it was meant for, nobody has proven to be it.
            connection.destination.identity = None;
            refuse(&shared, &pod, accepted, &connection, &error, began);
        }
    }
}

/// An accepted connection of the pod's application.
struct Downstream {
    client: SocketAddr,
    original: OriginalDestination,
    accepted: TcpStream,
}

/// What became of a connection that might carry requests.
enum Spoken<N> {
    /// It did, and is over.
    Served,
    /// It is carried as it is.
    Opaque(TcpStream),
    /// The same, and the server spoke first: it is connected, with what it said.
    ServerFirst(TcpStream, Box<Connected<N>>, Bytes),
}

/// Serves a connection whose requests the mesh looks at. What is declared as HTTP waits
/// for its client; elsewhere a client that stays silent may be waiting for its server,
/// so both are listened to.
async fn requests<N: Net>(
    shared: &Arc<Shared<N>>,
    pod: &Arc<LocalPod<N>>,
    from: Downstream,
    draining: watch::Receiver<bool>,
) -> Spoken<N> {
    let (service, declared) = match http::expected(shared, pod, from.original) {
        http::Expected::Http(service) => (service, true),
        http::Expected::Perhaps(service) => (service, false),
        http::Expected::Opaque => return Spoken::Opaque(from.accepted),
    };
    let Downstream {
        client,
        original,
        accepted,
    } = from;
    let first = http::first_bytes(&accepted);
    let first = match declared {
        true => Ok(first.await),
        false => tokio::time::timeout(http::SILENCE, first).await,
    };
    let detected = match first {
        Ok(detected) => detected,
        Err(_) => {
            let workload = pod.workload(shared);
            let decided = decide(shared, pod, &workload, &accepted, original).await;
            let Ok(plan) = decided else {
                return Spoken::Opaque(accepted);
            };
            let Ok(mut connected) = connect(shared, pod, &plan, client).await else {
                return Spoken::Opaque(accepted);
            };
            tokio::select! {
                detected = http::first_bytes(&accepted) => detected,
                said = speaks(&mut connected.upstream) => {
                    return Spoken::ServerFirst(accepted, Box::new(connected), said);
                }
            }
        }
    };
    let is_http2 = match detected {
        Ok(DetectedProtocol::Http1) => false,
        Ok(DetectedProtocol::Http2) => true,
        Ok(DetectedProtocol::Tls | DetectedProtocol::Opaque) | Err(_) => {
            return Spoken::Opaque(accepted);
        }
    };
    let (shared, pod) = (Arc::clone(shared), Arc::clone(pod));
    let downstream = http::Downstream::new(shared, pod, client, original, service);
    http::serve(downstream, accepted, is_http2, draining).await;
    Spoken::Served
}

/// Waits until a server says something, or ends.
async fn speaks<N>(upstream: &mut Upstream<N>) -> Bytes {
    match upstream {
        Upstream::Plain(stream) => {
            // Unread: the relay finds it there.
            let _ = stream.readable().await;
            Bytes::new()
        }
        Upstream::Tls(stream) => {
            let _ = stream.get_ref().0.readable().await;
            Bytes::new()
        }
        Upstream::SameNode(handed) => {
            handed.speaks().await;
            Bytes::new()
        }
        Upstream::Tunnel(tunnel) => match tunnel.streams.1.data().await {
            Some(Ok(said)) => {
                // A window that can't be given back belongs to a tunnel that broke, which
                // the relay finds out.
                let _ = tunnel.streams.1.flow_control().release_capacity(said.len());
                said
            }
            Some(Err(_)) | None => Bytes::new(),
        },
    }
}

/// Passes on what a server has said already.
async fn write_first(accepted: &TcpStream, mut first: &[u8]) -> std::io::Result<()> {
    while !first.is_empty() {
        accepted.writable().await?;
        match accepted.try_write(first) {
            Ok(written) => first = &first[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn decide<N>(
    shared: &Shared<N>,
    pod: &LocalPod<N>,
    source: &Workload,
    accepted: &TcpStream,
    original: OriginalDestination,
) -> Result<Plan, OutboundError> {
    let destination = destination::find(shared, source, accepted, original).await?;
    let to = destination.service.as_ref().zip(destination.port);
    let to = to.map(|(service, port)| (&service.key, port));
    let mesh = shared.store.snapshot();
    Ok(Plan {
        way: pod.upstream(shared, &mesh, to, Instant::now()),
        destination,
    })
}

/// Connects to the best candidate, and to others while none has answered. No byte of
/// the application was read yet, so another attempt is always safe.
async fn connect<N: Net>(
    shared: &Arc<Shared<N>>,
    pod: &Arc<LocalPod<N>>,
    plan: &Plan,
    client: SocketAddr,
) -> Result<Connected<N>, (OutboundError, Option<Candidate>)> {
    let (way, candidates) = (&plan.way, &plan.destination.candidates);
    let admitted = way.admit_connection(Instant::now());
    let mut permit = admitted.map_err(|refused| (refused.into(), None))?;
    let key = way.key_of_source(client.ip());
    let attempts = shared.settings.attempts.clamp(1, candidates.len().max(1));
    let mut tried = Vec::new();
    loop {
        let began = Instant::now();
        let chosen = way.choose(candidates, key, &tried, began);
        let Some(candidate) = chosen.and_then(|index| candidates.get(index)) else {
            // A plan has a candidate, and the last one's error is returned below.
            let error = std::io::ErrorKind::AddrNotAvailable.into();
            return Err((OutboundError::Connect(error), None));
        };
        tried.push(candidate.address);
        let attempt = way.attempt(candidate.address, began);
        let result = dial(shared, pod, candidate, client).await;
        let now = Instant::now();
        if result
            .as_ref()
            .err()
            .is_none_or(OutboundError::is_of_endpoint)
        {
            attempt.answered(result.is_ok(), now);
        }
        match result {
            Ok(upstream) => {
                permit.settle(true, now);
                return Ok(Connected {
                    upstream,
                    candidate: candidate.clone(),
                    took: now - began,
                    _attempt: attempt,
                    _permit: permit,
                });
            }
            Err(error) if tried.len() >= attempts => {
                if error.is_of_endpoint() {
                    permit.settle(false, now);
                }
                return Err((error, Some(candidate.clone())));
            }
            Err(error) => {
                tracing::debug!(%error, to = %candidate.address, "trying another endpoint")
            }
        }
    }
}

/// A connection of a pod, as far as it is known.
pub(crate) fn describe(
    source: &Arc<Workload>,
    client: SocketAddr,
    original: Option<OriginalDestination>,
    candidate: Option<&Candidate>,
    service: Option<&Service>,
) -> Connection {
    let original = original.map(OriginalDestination::address);
    let party = Party::workload(source, Some(client));
    let workload = candidate.and_then(Candidate::workload);
    let (path, security) = match candidate.map(|candidate| &candidate.transport) {
        Some(Transport::Tunnel { .. }) => (Path::CrossNode, Security::MutualTls),
        Some(Transport::SameNode { .. }) => (Path::SameNode, Security::SameNode),
        Some(Transport::Tls { .. }) => (Path::Outside, Security::Tls),
        Some(Transport::Plaintext { .. }) | None => (Path::Outside, Security::Plaintext),
    };
    let address = candidate.map(|candidate| candidate.address).or(original);
    let destination = match address {
        Some(address) => Party::known(workload, address),
        None => Party::default(),
    };
    let (source, destination) = match (security, workload) {
        (Security::Plaintext | Security::Tls, _) | (_, None) => (party, destination),
        (_, Some(to)) => (
            party.proven(source.identity.clone()),
            destination.proven(to.identity.clone()),
        ),
    };
    Connection {
        direction: Direction::Outbound,
        path,
        security,
        source,
        destination,
        service: None,
        service_hostname: None,
        original_destination: original,
    }
    .of_service(service)
}

/// The application learns of a failure by a reset, as from an unreachable server.
fn refuse<N>(
    shared: &Shared<N>,
    pod: &LocalPod<N>,
    accepted: TcpStream,
    connection: &Connection,
    error: &OutboundError,
    began: Instant,
) {
    relay::reset_on_close(&accepted);
    drop(accepted);
    let outcome = Outcome::failed(error.flag(), error);
    let (uid, nothing) = (&pod.started_as.uid, Progress::default());
    record::closed(&shared.metrics, uid, connection, &nothing, &outcome, began);
}
