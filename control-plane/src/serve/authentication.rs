//! Which node a call comes from.

use std::sync::Arc;
use std::time::SystemTime;

use tonic::{Request, Status};

use crate::ca::join_token::JoinKey;

/// The node that a call's token speaks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Node(pub(crate) String);

/// Lets calls with a good token pass, and says which node they come from.
pub(crate) fn interceptor(
    key: Arc<JoinKey>,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |mut request| {
        let header = request.metadata().get("authorization");
        let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let missing = || Status::unauthenticated("no join token (authorization: Bearer <token>)");
        let token = token.ok_or_else(missing)?;
        let node = key.verify(token, SystemTime::now()).map_err(|error| {
            tracing::warn!(%error, peer = ?request.remote_addr(), "refused a call");
            Status::unauthenticated(error.to_string())
        })?;
        request.extensions_mut().insert(Node(node));
        Ok(request)
    }
}

/// The node of an authenticated call.
pub(crate) fn node<T>(request: &Request<T>) -> Result<String, Status> {
    let node = request
        .extensions()
        .get::<Node>()
        .map(|node| node.0.clone());
    node.ok_or_else(|| Status::unauthenticated("the call was not authenticated"))
}
