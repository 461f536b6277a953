//! Connections whose application still waits in `connect()`: they are connected first, and
//! accepted when somebody has answered, so that a refusal is one of `connect()` itself.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use weft_model::OriginalDestination;

use super::connect::Connected;
use super::connection::OutboundConnection;
use super::detection::OpaqueUpstream;
use super::error::OutboundError;
use super::failure::record_failure;
use super::plan::Plan;
use super::port_protocol::{PortProtocol, port_protocol};
use crate::admission::Direction;
use crate::pod::Pod;
use crate::sync::lock;

/// How long a connected endpoint waits for the application, which may have given up.
const UNCLAIMED: Duration = Duration::from_secs(3);

/// What an application that waits in `connect()` is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectAnswer {
    /// It is connected: somebody has answered, or what it sends first decides where it goes.
    Connected,
    /// It fails: with `ConnectionRefused`, `HostUnreachable` or `NetworkUnreachable`.
    Failed(io::ErrorKind),
}

/// Connections of a pod that are connected early at the same time, those that wait for their
/// applications among them.
const MOST_EARLY: usize = 512;

/// An application's end and the destination: it may have bound one end for several.
type Attempt = (SocketAddr, OriginalDestination);

/// The connections of one pod that are connected before they are accepted.
#[derive(Debug)]
pub(crate) struct EarlyConnections {
    waiting: Mutex<HashMap<Attempt, Waiting>>,
    numbers: AtomicU64,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    handed: oneshot::Receiver<Handed>,
    /// Dropped when it is accepted.
    _unclaimed: oneshot::Sender<Infallible>,
}

impl Default for EarlyConnections {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            numbers: AtomicU64::default(),
            permits: Arc::new(Semaphore::new(MOST_EARLY)),
        }
    }
}

/// A connection that is to be accepted, for whoever connects it.
#[derive(Debug)]
struct Expected {
    number: u64,
    handed: oneshot::Sender<Handed>,
    /// Ends when it is accepted.
    claimed: oneshot::Receiver<Infallible>,
}

/// What became of a connection before it was accepted.
#[derive(Debug)]
pub(super) enum Handed {
    /// Somebody has answered.
    Connected(Box<(OutboundConnection, Option<Plan>, Connected)>),
    /// Nobody has; that is recorded.
    Failed,
}

impl EarlyConnections {
    /// A permit for one more; `None` when the pod has as many as it may.
    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// What became of a connection that is accepted now; waits for it. `None` for one that
    /// nothing was done for.
    pub(super) async fn take(
        &self,
        peer: SocketAddr,
        original: OriginalDestination,
    ) -> Option<Handed> {
        let waiting = lock(&self.waiting).remove(&(peer, original))?;
        waiting.handed.await.ok()
    }

    fn register(&self, peer: SocketAddr, original: OriginalDestination) -> Expected {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, handed) = oneshot::channel();
        let (unclaimed, claimed) = oneshot::channel();
        let waiting = Waiting {
            number,
            handed,
            _unclaimed: unclaimed,
        };
        lock(&self.waiting).insert((peer, original), waiting);
        Expected {
            number,
            handed: sender,
            claimed,
        }
    }

    fn forget(&self, attempt: Attempt, number: u64) {
        let mut waiting = lock(&self.waiting);
        if waiting
            .get(&attempt)
            .is_some_and(|one| one.number == number)
        {
            waiting.remove(&attempt);
        }
    }
}

/// Connects a connection that is to be accepted, tells `answer` how that went, and keeps what
/// was connected until it is accepted.
pub(crate) async fn connect_early(
    pod: Arc<Pod>,
    early: Arc<EarlyConnections>,
    peer: SocketAddr,
    original: OriginalDestination,
    answer: impl FnOnce(ConnectAnswer),
) {
    let connection = OutboundConnection::new(&pod, peer, original);
    // Over the limit it is refused when it is accepted.
    let Some(admission) = pod.admit(Direction::Outbound) else {
        return answer(ConnectAnswer::Connected);
    };
    if port_protocol(&connection) != PortProtocol::Opaque {
        return answer(ConnectAnswer::Connected);
    }
    let Expected {
        number,
        handed,
        claimed,
    } = early.register(peer, original);
    let OpaqueUpstream { plan, connected } = OpaqueUpstream::connect(&connection, None).await;
    match connected {
        Ok(connected) => {
            let connected = Box::new((connection, plan, connected));
            let _ = handed.send(Handed::Connected(connected));
            // It gets one of its own when it is accepted.
            drop(admission);
            answer(ConnectAnswer::Connected);
            let _ = tokio::time::timeout(UNCLAIMED, claimed).await;
        }
        Err(failure) if matches!(failure.error, OutboundError::Undecided) => {
            drop(handed);
            answer(ConnectAnswer::Connected);
        }
        Err(failure) => {
            record_failure(&connection, plan.as_ref(), &failure);
            // Its kernel may have asked once more meanwhile, and was let through.
            let _ = handed.send(Handed::Failed);
            answer(ConnectAnswer::Failed(failure.error.connect_error()));
        }
    }
    early.forget((peer, original), number);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_bound_source_has_an_early_connection_to_each_destination() {
        let early = EarlyConnections::default();
        let peer = address("127.0.0.1:5000");
        let [one, other] = ["10.0.0.1:80", "10.0.0.2:80"].map(address);
        let [one, other] = [one, other].map(OriginalDestination::new);
        let first = early.register(peer, one);
        let second = early.register(peer, other);
        drop(second.handed);
        assert!(first.handed.send(Handed::Failed).is_ok());
        let taken = early.take(peer, one).await;
        assert!(matches!(taken, Some(Handed::Failed)), "{taken:?}");
        assert!(early.take(peer, other).await.is_none());
        early.forget((peer, one), first.number);
        assert!(early.take(peer, one).await.is_none());
    }
}
