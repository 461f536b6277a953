//! Applications that wait in `connect()`: each is told how its connection went.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use weft_proxy::listen::{ConnectAnswer, Connector};

use crate::pod_sockets::PodSockets;
use crate::redirect::{HeldAttempt, HeldAttempts, HeldConnections, Unreachable};

/// The captured pods whose applications may wait, by the cookies of their namespaces.
#[derive(Debug, Default)]
pub(crate) struct HoldingPods(Mutex<Pods>);

#[derive(Debug, Default)]
struct Pods {
    holding: HashMap<u64, HoldingPod>,
    /// Those whose capture is tried out: who hears of connections to destinations of multicast,
    /// which no application has.
    probed: HashMap<u64, mpsc::UnboundedSender<HeldAttempt>>,
}

/// What connects for a pod's applications, and where the answer is sent.
#[derive(Clone, Debug)]
struct HoldingPod {
    connector: Connector,
    sockets: Arc<PodSockets>,
}

/// A pod among those whose applications may wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct HoldingGuard {
    pods: Arc<HoldingPods>,
    cookie: u64,
}

impl HoldingPods {
    /// Answers the applications of a pod from now on.
    pub(crate) fn insert(
        self: &Arc<Self>,
        connector: Connector,
        sockets: &Arc<PodSockets>,
    ) -> HoldingGuard {
        let cookie = sockets.namespace().cookie();
        let sockets = Arc::clone(sockets);
        self.lock()
            .holding
            .insert(cookie, HoldingPod { connector, sockets });
        HoldingGuard {
            pods: Arc::clone(self),
            cookie,
        }
    }

    /// Hears of a pod's probes for as long as the receiver is kept.
    pub(crate) fn hear_of_probes(&self, cookie: u64) -> mpsc::UnboundedReceiver<HeldAttempt> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().probed.insert(cookie, sender);
        receiver
    }

    /// Passes a probe on. False for what is none.
    fn is_probe(&self, attempt: HeldAttempt) -> bool {
        let mut pods = self.lock();
        pods.probed.retain(|_, sender| !sender.is_closed());
        let is_multicast = attempt.destination().address().ip().is_multicast();
        let sender = pods.probed.get(&attempt.namespace());
        is_multicast && sender.is_some_and(|sender| sender.send(attempt).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Pods> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects for a waiting application. One of a pod that is gone isn't answered: nobody
    /// listens there any more.
    fn connect(&self, attempt: HeldAttempt, held: &Arc<HeldConnections>) {
        if self.is_probe(attempt) {
            return held.give_up(&attempt);
        }
        let Some(pod) = self.lock().holding.get(&attempt.namespace()).cloned() else {
            return;
        };
        let HoldingPod { connector, sockets } = pod;
        let held = Arc::clone(held);
        let answer = move |answer| {
            if let Err(error) = tell(&held, &attempt, answer, &sockets) {
                tracing::debug!(%error, "telling an application how its connection went");
            }
        };
        connector.connect(attempt.peer(), attempt.destination(), answer);
    }
}

impl Drop for HoldingGuard {
    fn drop(&mut self) {
        self.pods.lock().holding.remove(&self.cookie);
    }
}

/// Connects for all that wait, for ever.
pub(crate) async fn answer_attempts(
    mut attempts: HeldAttempts,
    held: Arc<HeldConnections>,
    pods: Arc<HoldingPods>,
) {
    loop {
        match attempts.next().await {
            Ok(attempt) => pods.connect(attempt, &held),
            Err(error) => {
                // The runtime is ending, and with it the agent: its listeners, which hold nobody
                // once they are closed, too.
                tracing::error!(%error, "can't hear of applications that connect any more; restart the agent if it goes on");
                return;
            }
        }
    }
}

fn tell(
    held: &HeldConnections,
    attempt: &HeldAttempt,
    answer: ConnectAnswer,
    sockets: &PodSockets,
) -> io::Result<()> {
    let why = match answer {
        ConnectAnswer::Connected => return held.let_through(attempt, sockets.namespace()),
        ConnectAnswer::Failed(io::ErrorKind::HostUnreachable) => Unreachable::Host,
        ConnectAnswer::Failed(io::ErrorKind::NetworkUnreachable) => Unreachable::Network,
        ConnectAnswer::Failed(_) => Unreachable::Port,
    };
    held.refuse(attempt, why, sockets.namespace())
}
