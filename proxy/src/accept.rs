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
use crate::sockets::set_data_path_options;

/// Wait after the kernel had no descriptor or memory for another connection.
const BACK_OFF: Duration = Duration::from_millis(50);

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
                set_data_path_options(&stream);
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
