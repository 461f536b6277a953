//! Requests that a neighbour sends straight to a pod's application.

use std::fmt::Debug;

use crate::telemetry::{RequestDescription, RequestRecord};

/// The inbound side of a pod, as far as requests go that a neighbour sends straight to its
/// application.
pub(crate) trait RequestReceiver: Debug + Send + Sync {
    /// Begins the receiving pod's own record of a request.
    fn receive(&self, request: RequestDescription) -> RequestRecord;
}
