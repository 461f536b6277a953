//! Accepting connections: a permit for each, a task for each, and patience when the machine
//! is short of descriptors.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::pod::Pod;
use crate::sockets;

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
    /// Serves a connection to its end.
    fn serve(
        &self,
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
                let Some(admission) = pod.admit() else {
                    tracing::warn!(pod = %pod.started_as.name, "connection limit reached");
                    server.refuse_over_limit(accepted, peer);
                    continue;
                };
                sockets::set_data_path_options(&accepted);
                let (serving, gone) = (server.serve(accepted, peer), lifetime.gone.clone());
                tokio::spawn(async move {
                    until_gone(serving, &gone).await;
                    drop(admission);
                });
            }
            Err(_) if lifetime.draining.is_cancelled() => return,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting connections; raise the limit of open files");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn until_gone(serving: impl Future<Output = ()>, gone: &CancellationToken) {
    let mut serving = pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        () = gone.cancelled() => {
            let _ = tokio::time::timeout(LAST_MOMENT, serving).await;
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
