//! Requests that a neighbour sends straight to a pod's application.

use std::fmt::Debug;
use std::sync::Arc;

use super::request_head::RequestHead;
use super::under_way::RequestUnderWay;
use crate::telemetry::{RequestDescription, RequestRecord};

/// The inbound side of a pod, as far as requests go that a neighbour sends straight to its
/// application.
pub(crate) trait RequestReceiver: Debug + Send + Sync {
    /// Decides about a request by the newest policies, and begins the receiving pod's own record
    /// of it.
    fn receive(&self, description: RequestDescription, head: &RequestHead<'_>) -> ReceivedRequest;
}

/// A request that was decided about.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    /// The receiving pod's record.
    pub(crate) record: RequestRecord,
    /// Policies let it through. One that they don't goes nowhere.
    pub(crate) is_allowed: bool,
    /// To be kept as long as anything of it is under way; none of what no policy can revoke.
    pub(crate) under_way: Option<Arc<RequestUnderWay>>,
}
