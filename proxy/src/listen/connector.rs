//! Connecting for applications that still wait in `connect()`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;
use weft_model::OriginalDestination;

use super::accept::{Lifetime, until_gone};
use crate::outbound::{ConnectAnswer, EarlyConnections, connect_early};
use crate::pod::Pod;

/// Connects a pod's connections before they are accepted. Cloning shares it; it keeps nothing
/// of the pod's proxy running.
#[derive(Clone, Debug)]
pub struct Connector {
    pub(super) pod: Arc<Pod>,
    pub(super) early: Arc<EarlyConnections>,
    pub(super) lifetime: Lifetime,
    pub(super) worker: Handle,
}

impl Connector {
    /// Connects to the destination that the application behind `peer` wants to connect to, on
    /// the pod's worker, and tells `answer` how that went. When the application is connected
    /// after that, its connection goes on from there; nothing is told once the proxy is gone. Of
    /// too many at once, some are connected when they are accepted.
    pub fn connect(
        &self,
        peer: SocketAddr,
        original: OriginalDestination,
        answer: impl FnOnce(ConnectAnswer) + Send + 'static,
    ) {
        if self.lifetime.draining.is_cancelled() {
            return;
        }
        // Asked for here: tasks that wait for their turn take memory, too.
        let Some(permit) = self.early.admit() else {
            return answer(ConnectAnswer::Connected);
        };
        let (pod, early) = (Arc::clone(&self.pod), Arc::clone(&self.early));
        let connecting = async move {
            connect_early(pod, early, peer, original, answer).await;
            drop(permit);
        };
        let gone = self.lifetime.gone.clone();
        self.worker.spawn(until_gone(connecting, gone));
    }
}
