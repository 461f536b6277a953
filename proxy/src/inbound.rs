//! The ways of a connection into a pod: through a tunnel, as plaintext, or handed
//! over by another pod of the same node. Each asks the model whether it may, connects
//! to the application, carries and records.

pub(crate) mod hbone;
pub(crate) mod plaintext;
pub(crate) mod same_node;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::error::InboundError;
use crate::net::{Net, Purpose};
use crate::record::{self, Connection, Outcome};
use crate::relay::Progress;
use crate::shared::{LocalPod, Shared};

/// Connects to the pod's own application, which will see `client` as its peer.
async fn connect<N: Net>(
    shared: &Shared<N>,
    pod: &LocalPod<N>,
    to: SocketAddr,
    client: SocketAddr,
) -> Result<(TcpStream, Duration), InboundError> {
    let began = Instant::now();
    let connecting = pod.net.connect(to, Purpose::Application { client });
    let connected = tokio::time::timeout(shared.settings.connect_timeout, connecting).await;
    let stream = connected.map_err(|_| InboundError::ConnectTimeout)?;
    Ok((stream.map_err(InboundError::Connect)?, began.elapsed()))
}

/// Records a connection that was refused or failed before its first byte.
fn refused<N>(
    shared: &Shared<N>,
    pod: &LocalPod<N>,
    connection: &Arc<Connection>,
    error: &InboundError,
    began: Instant,
) {
    let outcome = Outcome::failed(error.flag(), error);
    let (uid, nothing) = (&pod.started_as.uid, Progress::default());
    record::closed(&shared.metrics, uid, connection, &nothing, &outcome, began);
}
