//! Accepting connections: a place for each, a task for each, and patience when the
//! machine is short of descriptors.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::relay;
use crate::shared::LocalPod;

/// Wait after the kernel had no descriptor or memory for another connection.
const BACK_OFF: Duration = Duration::from_millis(50);
/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(180);

/// How long a connection has to end and to be recorded once its proxy is gone.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Accepts until `draining` turns true, with a task for each connection. Over the
/// pod's limit a connection is reset, so that its client knows at once. No connection
/// outlives the proxy, which holds the sender of `draining`: its socket would keep the
/// pod's network namespace alive.
pub(crate) async fn accept<N, F>(
    listener: TcpListener,
    pod: Arc<LocalPod<N>>,
    mut draining: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    N: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(admission) = pod.admit() else {
                    relay::reset_on_close(&stream);
                    tracing::warn!(pod = %pod.started_as.name, "connection limit reached");
                    continue;
                };
                prepare(&stream);
                let (serving, proxy) = (serve(stream, peer), draining.clone());
                tokio::spawn(async move {
                    let mut serving = pin!(serving);
                    tokio::select! {
                        () = &mut serving => {}
                        () = gone(proxy) => {
                            let _ = tokio::time::timeout(LAST_MOMENT, serving).await;
                        }
                    }
                    drop(admission);
                });
            }
            Err(_) if *draining.borrow() => return,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting connections; raise the limit of open files");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Resolves when the sender is.
async fn gone(mut proxy: watch::Receiver<bool>) {
    while proxy.changed().await.is_ok() {}
}

/// Options of every connection of the data path. Failing to set one is no reason to
/// refuse the connection.
pub(crate) fn prepare(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "socket options");
    }
}

/// Whether an error concerns just the connection that would have been accepted
/// (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
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
