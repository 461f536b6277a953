//! One connection or request on its way to one endpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use weft_model::traffic::OutlierDetection;

use super::endpoints::Endpoints;
use super::loads::{EndpointLoad, InFlight};

/// One connection or request on its way to one endpoint; over when dropped.
#[derive(Debug)]
pub(crate) struct EndpointAttempt {
    pub(super) address: SocketAddr,
    pub(super) load: Arc<EndpointLoad>,
    pub(super) _in_flight: InFlight,
    pub(super) endpoints: Option<Arc<Endpoints>>,
    pub(super) outliers: Option<OutlierDetection>,
    pub(super) began: Instant,
}

impl EndpointAttempt {
    /// Records that the endpoint took the connection or answered the request, or failed to.
    /// What is nobody's failure, such as a client that left, isn't recorded. The work goes on
    /// being in flight until this is dropped.
    pub(crate) fn record_result(&self, success: bool, now: Instant) {
        let took = now.saturating_duration_since(self.began);
        self.load.observe(took, success, now);
        if let (Some(endpoints), Some(policy)) = (&self.endpoints, &self.outliers) {
            endpoints.record_result(self.address, policy, success, now);
        }
    }
}
