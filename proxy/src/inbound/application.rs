//! The pod's own application, as the destination of what arrives.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::arrival::Arrival;
use super::authorize::Grant;
use super::error::InboundError;
use crate::admission::{Admission, Direction};
use crate::pod::Pod;
use crate::sockets::{self, Purpose};

/// An arrival that was let in, and the application's connection for it.
#[derive(Debug)]
pub(super) struct Admitted {
    /// What it may carry.
    pub(super) grant: Grant,
    pub(super) application: TcpStream,
    /// How long the application took to accept.
    pub(super) connect_time: Duration,
    /// Its permit among the pod's connections, where it has none yet, and its descriptor.
    pub(super) admission: Option<Admission>,
}

/// Lets an arrival in that has no permit among the pod's connections yet, such as one inside
/// a tunnel.
///
/// # Errors
/// When it isn't allowed, there is no permit, or the application doesn't accept.
pub(super) async fn admit(arrival: &Arrival) -> Result<Admitted, InboundError> {
    let grant = arrival.authorize()?;
    let admission = arrival.pod.admit(Direction::Inbound);
    let admission = admission.ok_or(InboundError::TooManyConnections)?;
    connect(arrival, grant, admission).await
}

/// Lets an arrival in that has its permit already.
///
/// # Errors
/// When it isn't allowed, no descriptor is left for it, or the application doesn't accept.
pub(super) async fn admit_accepted(arrival: &Arrival) -> Result<Admitted, InboundError> {
    let grant = arrival.authorize()?;
    let admission = arrival.pod.admit_end();
    let admission = admission.ok_or(InboundError::TooManyConnections)?;
    connect(arrival, grant, admission).await
}

async fn connect(
    arrival: &Arrival,
    grant: Grant,
    admission: Admission,
) -> Result<Admitted, InboundError> {
    let began = Instant::now();
    let application = dial(&arrival.pod, arrival.destination, arrival.client).await?;
    Ok(Admitted {
        grant,
        application,
        connect_time: began.elapsed(),
        admission: Some(admission),
    })
}

/// Connects to the application, which will see `client` as its peer.
///
/// # Errors
/// When it doesn't accept, or not in time.
pub(super) async fn dial(
    pod: &Pod,
    to: SocketAddr,
    client: SocketAddr,
) -> Result<TcpStream, InboundError> {
    let limit = pod.node.settings.connect_timeout;
    let purpose = Purpose::Application { client };
    let connected = sockets::connect(&*pod.sockets, to, purpose, limit).await;
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => InboundError::ConnectTimeout,
        _ => InboundError::Connect(error),
    })
}
