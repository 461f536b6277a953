//! Connecting an opaque connection: to the best candidate, and to others while none has
//! answered.

use std::io;
use std::time::{Duration, Instant};

use weft_model::mesh::Candidate;

use super::connection::OutboundConnection;
use super::error::OutboundError;
use super::plan::Plan;
use crate::admission::DescriptorShare;
use crate::detect::PrefixedStream;
use crate::traffic::{EndpointAttempt, TrafficPermit};
use crate::upstream::{DialError, ErrorSource, SameNodeSide};

/// A connected endpoint, with what it takes under limits and in the balance of load.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: PrefixedStream,
    pub(super) same_node: Option<SameNodeSide>,
    pub(super) candidate: Candidate,
    pub(super) connect_time: Duration,
    pub(super) _attempt: EndpointAttempt,
    pub(super) _permit: TrafficPermit,
    pub(super) _descriptor: Option<DescriptorShare>,
}

/// Why no endpoint was connected, and the last one that was tried.
#[derive(Debug)]
pub(super) struct ConnectFailure {
    pub(super) error: OutboundError,
    pub(super) candidate: Option<Candidate>,
}

impl<E: Into<OutboundError>> From<E> for ConnectFailure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            candidate: None,
        }
    }
}

/// Connects to the candidates of a plan, one after the other. No byte of the application was
/// sent yet, so another attempt is always safe.
///
/// # Errors
/// When the policy refuses, or as many endpoints as the settings allow have failed.
pub(super) async fn connect(
    connection: &OutboundConnection,
    plan: &Plan,
) -> Result<Connected, ConnectFailure> {
    let (upstream, candidates) = (&plan.upstream, &plan.destination.candidates);
    let mut permit = upstream.admit_connection(Instant::now())?;
    let key = upstream.source_hash(connection.client.ip());
    let settings = &connection.pod.node.settings;
    let attempts = settings.connect_attempts.clamp(1, candidates.len().max(1));
    let mut tried = Vec::new();
    loop {
        let began = Instant::now();
        let chosen = upstream.choose(candidates, key, &tried, began);
        let Some(candidate) = chosen.and_then(|index| candidates.get(index)) else {
            // A plan has a candidate, and the last one's error is returned below.
            return Err(DialError::Connect(io::ErrorKind::AddrNotAvailable.into()).into());
        };
        tried.push(candidate.address);
        let attempt = upstream.begin_attempt(candidate.address, began);
        let dialled = connection.pod.dialer.dial(
            candidate,
            &connection.workload,
            connection.client,
            connection.bound_source.towards(candidate),
        );
        let result = dialled.await;
        let now = Instant::now();
        match result {
            Ok(connected) => {
                attempt.record_result(true, now);
                permit.record_result(true, now);
                return Ok(Connected {
                    stream: PrefixedStream::new(connected.stream),
                    same_node: connected.same_node,
                    candidate: candidate.clone(),
                    connect_time: now - began,
                    _attempt: attempt,
                    _permit: permit,
                    _descriptor: connected.descriptor,
                });
            }
            Err(error) => {
                let is_last = tried.len() >= attempts;
                if error.error_source() == ErrorSource::Upstream {
                    attempt.record_result(false, now);
                    if is_last {
                        permit.record_result(false, now);
                    }
                }
                if is_last {
                    return Err(ConnectFailure {
                        error: error.into(),
                        candidate: Some(candidate.clone()),
                    });
                }
                tracing::debug!(%error, to = %candidate.address, "trying another endpoint");
            }
        }
    }
}
