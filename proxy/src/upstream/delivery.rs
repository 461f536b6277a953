//! Bytes that a neighbour would carry to a pod as they are, delivered by that pod's own side.

use std::fmt::Debug;
use std::pin::Pin;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::detect::PrefixedStream;
use crate::telemetry::ConnectionRecord;

/// A connection that is delivered to a pod by its own inbound side.
#[derive(Debug)]
pub(crate) struct DeliveredConnection {
    /// The client's end.
    pub(crate) downstream: PrefixedStream,
    /// The application's end.
    pub(crate) application: TcpStream,
    /// The receiving pod's record of it.
    pub(crate) record: ConnectionRecord,
    /// Its permit under the limit of that pod's connections.
    pub(crate) admission: Option<Admission>,
}

/// The inbound side of one connection that was handed over, as far as it looks at its bytes.
pub(crate) trait SameNodeDelivery: Debug + Send + Sync {
    /// Serves it to its end, like one that came through a tunnel.
    fn deliver(
        self: Box<Self>,
        connection: DeliveredConnection,
        draining: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
