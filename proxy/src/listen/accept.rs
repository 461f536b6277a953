//! Accepting connections: a permit for each, a task for each, and patience when the machine
//! is short of descriptors.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::pod::Pod;

/// Wait after the kernel had no descriptor or memory for another connection.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long a connection has to end and to be recorded once its proxy is gone.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// When a proxy stops taking connections, and when it is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Lifetime {
    /// It takes no new connections.
    pub(super) draining: CancellationToken,
    /// It is gone; no connection outlives it, as its socket would keep the pod's network
    /// namespace alive.
    pub(super) gone: CancellationToken,
}

/// What becomes of the connections of one listener.
pub(super) trait Serve: Send + Sync + 'static {
    /// What lets a connection in.
    type Permit: Send + 'static;

    /// A permit for one more connection of that client; `None` when there are as many as may
    /// be.
    fn admit(&self, peer: SocketAddr) -> Option<Self::Permit>;

    /// Serves a connection to its end.
    fn serve(
        &self,
        permit: Self::Permit,
        accepted: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Refuses one because the pod has as many as it may.
    fn refuse_over_limit(&self, accepted: TcpStream, peer: SocketAddr);
}

/// Accepts until the proxy drains, with a task for each connection.
pub(super) async fn accept(
    listener: TcpListener,
    pod: Arc<Pod>,
    lifetime: Lifetime,
    server: impl Serve,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = lifetime.draining.cancelled() => return,
        };
        match accepted {
            Ok((accepted, peer)) => {
                let Some(permit) = server.admit(peer) else {
                    tracing::debug!(pod = %pod.started_as.name, "connection limit reached");
                    server.refuse_over_limit(accepted, peer);
                    continue;
                };
                let serving = server.serve(permit, accepted, peer);
                tokio::spawn(until_gone(serving, lifetime.gone.clone()));
            }
            Err(_) if lifetime.draining.is_cancelled() => return,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) if has_no_descriptor(&error) && refuse_one(&listener, &pod, &server) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting connections; raise the limit of open files");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Refuses a connection for which there is no descriptor.
fn refuse_one(listener: &TcpListener, pod: &Pod, server: &impl Serve) -> bool {
    let spare = &pod.node.spare_descriptor;
    spare.refuse_one(listener, |accepted, peer| {
        server.refuse_over_limit(accepted, peer)
    })
}

/// Whether the process, or the machine, has all the descriptors that it may have.
fn has_no_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Runs a task of a proxy, which outlives that for a moment only.
pub(super) fn until_gone(
    serving: impl Future<Output = ()> + Send + 'static,
    gone: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    // Boxed: pinned in place, the task would hold it twice and be copied with that.
    let mut serving = Box::pin(serving);
    async move {
        tokio::select! {
            () = &mut serving => {}
            () = gone.cancelled() => {
                let _ = tokio::time::timeout(LAST_MOMENT, serving).await;
            }
        }
    }
}

/// Whether an error concerns just the connection that would have been accepted
/// (accept(2), "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::TimedOut
            | Kind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_connection_holds_it_once() {
        let large = [0_u8; 4096];
        let serving = async move {
            tokio::task::yield_now().await;
            std::hint::black_box(large);
        };
        let task = until_gone(serving, CancellationToken::new());
        let size = size_of_val(&task);
        assert!(size <= 512, "{size} bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_served_has_a_last_moment() {
        let gone = CancellationToken::new();
        gone.cancel();
        let began = tokio::time::Instant::now();
        until_gone(std::future::pending(), gone).await;
        assert_eq!(began.elapsed(), LAST_MOMENT);
    }
}
