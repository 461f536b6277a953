//! What is decided about an opaque connection before anything is done.

use std::sync::Arc;
use std::time::Instant;

use weft_model::Mesh;
use weft_model::egress::EgressMode;
use weft_model::mesh::Candidate;
use weft_model::workload::Workload;

use super::connection::OutboundConnection;
use super::destination::Destination;
use super::error::OutboundError;
use super::resolve::resolve;
use crate::detect::PrefixedStream;
use crate::policy_verdict::PolicyVerdict;
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
    /// Decides about a connection; without its first bytes when it was not accepted yet.
    ///
    /// # Errors
    /// When it may go nowhere, or its first bytes decide and are not there.
    pub(super) async fn decide(
        connection: &OutboundConnection,
        downstream: Option<&mut PrefixedStream>,
    ) -> Result<Self, OutboundError> {
        let mut destination = resolve(connection, downstream).await?;
        let candidates = std::mem::take(&mut destination.candidates);
        let (mesh, workload) = (&connection.mesh, &connection.workload);
        destination.candidates = mesh.admitted_candidates(workload, candidates)?;
        let service = destination.service.as_ref().zip(destination.port);
        let service = service.map(|(service, port)| (&service.key, port));
        let pod = &connection.pod;
        Ok(Self {
            upstream: pod.upstream_service(&connection.mesh, service, Instant::now()),
            destination,
        })
    }

    /// What is asked again whenever the mesh changes: may the connection still be there that
    /// was made to this candidate?
    pub(super) fn still_allowed(&self, candidate: &Candidate) -> StillAllowed {
        let is_registered = !self.destination.is_unregistered;
        let candidate = candidate.clone();
        let by_policy = PolicyVerdict::default();
        Box::new(move |mesh: &Mesh, now: &Arc<Workload>| {
            let server = candidate.workload().map(|workload| mesh.now(workload));
            let ends = by_policy.ends(mesh, now, server, || mesh.authorize_egress(now, &candidate));
            !ends && (is_registered || now.egress_mode == EgressMode::AllowAny)
        })
    }
}
