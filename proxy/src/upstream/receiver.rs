//! Requests that a neighbour sends straight to a pod's application.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use weft_model::request_authentication::TokenRefusal;

use crate::telemetry::{RequestDescription, RequestRecord};

/// The inbound side of a pod, as far as requests go that a neighbour sends straight to its
/// application.
pub(crate) trait RequestReceiver: Debug + Send + Sync {
    /// Decides about a request by the newest policies, and begins the receiving pod's own record
    /// of it.
    fn receive(&self, description: RequestDescription, head: &RequestHead<'_>) -> ReceivedRequest;

    /// Resolves when policies don't allow a request any more that has changed the protocol.
    fn revoked(&self, head: OwnedHead) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The head of a request, as the application gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead<'a> {
    /// Its method.
    pub(crate) method: &'a Method,
    /// Its path without query; empty for CONNECT.
    pub(crate) path: &'a str,
    /// Its query.
    pub(crate) query: Option<&'a str>,
    /// Its host without port; empty where it names none.
    pub(crate) host: &'a str,
    /// Its headers, but those of one connection.
    pub(crate) headers: &'a HeaderMap,
}

/// The same, for as long as its connection carries another protocol.
#[derive(Clone, Debug)]
pub(crate) struct OwnedHead {
    method: Method,
    path: Box<str>,
    query: Option<Box<str>>,
    host: Box<str>,
    headers: HeaderMap,
}

/// A request that was decided about.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    /// The receiving pod's record.
    pub(crate) record: RequestRecord,
    /// Whether it goes on.
    pub(crate) passage: Passage,
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

/// A request that has changed the protocol, and who decides about it.
#[derive(Debug)]
pub(crate) struct ReceivedUpgrade {
    receiver: Arc<dyn RequestReceiver>,
    head: OwnedHead,
}

impl RequestHead<'_> {
    /// The same, for longer.
    pub(crate) fn into_owned(self) -> OwnedHead {
        OwnedHead {
            method: self.method.clone(),
            path: self.path.into(),
            query: self.query.map(Into::into),
            host: self.host.into(),
            headers: self.headers.clone(),
        }
    }
}

impl OwnedHead {
    /// The same, to be looked at.
    pub(crate) fn as_head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            host: &self.host,
            headers: &self.headers,
        }
    }
}

impl ReceivedUpgrade {
    /// A request that changes the protocol, if its server agrees.
    pub(crate) fn new(receiver: &Arc<dyn RequestReceiver>, head: RequestHead<'_>) -> Self {
        Self {
            receiver: Arc::clone(receiver),
            head: head.into_owned(),
        }
    }

    /// Resolves when the receiving pod's policies don't allow it any more.
    pub(crate) async fn revoked(self) {
        self.receiver.revoked(self.head).await;
    }
}
