//! What is decided about an opaque connection before anything is done.

use std::time::Instant;

use weft_model::egress::EgressMode;
use weft_model::workload::Workload;

use super::connection::OutboundConnection;
use super::destination::Destination;
use super::error::OutboundError;
use super::resolve::resolve;
use crate::detect::PrefixedStream;
use crate::telemetry::StillAllowed;
use crate::traffic::UpstreamService;

/// Where a connection may go, and the state of the service there that chooses the endpoint
/// and limits how much goes to it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) destination: Destination,
    pub(super) upstream: UpstreamService,
}

impl Plan {
    /// Decides about a connection.
    ///
    /// # Errors
    /// When it may go nowhere.
    pub(super) async fn decide(
        connection: &OutboundConnection,
        downstream: &mut PrefixedStream,
    ) -> Result<Self, OutboundError> {
        let destination = resolve(connection, downstream).await?;
        let service = destination.service.as_ref().zip(destination.port);
        let service = service.map(|(service, port)| (&service.key, port));
        let pod = &connection.pod;
        Ok(Self {
            upstream: pod.upstream_service(&connection.mesh, service, Instant::now()),
            destination,
        })
    }

    /// What is asked again whenever the mesh changes: may the connection still be there?
    pub(super) fn still_allowed(&self) -> Option<StillAllowed> {
        let allowed = |now: &Workload| now.egress_mode == EgressMode::AllowAny;
        self.destination
            .is_unregistered
            .then(|| Box::new(allowed) as StillAllowed)
    }
}
