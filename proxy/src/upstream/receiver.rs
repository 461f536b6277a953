//! Requests that a neighbour sends straight to a pod's application.

use std::fmt::Debug;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use weft_model::request_authentication::TokenRefusal;

use super::request_head::RequestHead;
use super::under_way::RequestUnderWay;
use crate::telemetry::{RequestDescription, RequestRecord};
use crate::traffic::PolicyRefusal;

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
    /// Whether it goes on.
    pub(crate) passage: Passage,
    /// To be kept as long as anything of it is under way; none of what no policy can revoke.
    pub(crate) under_way: Option<Arc<RequestUnderWay>>,
}

/// Whether a request goes on to the application.
#[derive(Debug)]
pub(crate) enum Passage {
    /// Policies let it through: as it is, or with another head.
    Allowed(Option<Box<RewrittenHead>>),
    /// They don't. It goes nowhere.
    Denied,
    /// Its token is refused. It goes nowhere.
    InvalidToken(TokenRefusal),
    /// It comes more often than a TrafficPolicy allows. It goes nowhere.
    Refused(PolicyRefusal),
}

/// What is different in a request's head on its way to the application.
#[derive(Debug)]
pub(crate) struct RewrittenHead {
    /// All of its headers.
    pub(crate) headers: HeaderMap,
    /// Path and query, where they are others.
    pub(crate) target: Option<PathAndQuery>,
}

impl RewrittenHead {
    /// Makes a request the one that the application gets.
    pub(crate) fn apply(self, headers: &mut HeaderMap, uri: &mut Uri) {
        *headers = self.headers;
        let Some(target) = self.target else {
            return;
        };
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(target);
        // Its other parts were those of a URI before.
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}
