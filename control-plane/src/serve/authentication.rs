//! The node that a call comes from.

mod token_review;

use std::sync::Arc;
use std::time::SystemTime;

use tonic::{Request, Status};

use crate::ca::join_token::JoinKey;
pub(crate) use token_review::{TokenReviewer, TokenReviewerOptions};

/// The authority that vouches for agents.
#[derive(Clone)]
pub(crate) enum Authenticator {
    /// This control plane itself, by tokens that it made.
    JoinTokens(Arc<JoinKey>),
    /// Kubernetes, by the token of the agent's ServiceAccount.
    Kubernetes(Arc<TokenReviewer>),
}

impl Authenticator {
    /// The node that a call's token speaks for.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `PERMISSION_DENIED` with what to do about it;
    /// `UNAVAILABLE` when the API server can't be asked.
    pub(crate) async fn node<T>(&self, call: &Request<T>) -> Result<String, Status> {
        self.node_of(token(call)?).await.inspect_err(|error| {
            tracing::warn!(reason = error.message(), peer = ?call.remote_addr(), "refused a call");
        })
    }

    /// The node that a token speaks for now.
    ///
    /// # Errors
    /// As [`Authenticator::node`].
    pub(crate) async fn node_of(&self, token: &str) -> Result<String, Status> {
        match self {
            Self::JoinTokens(key) => {
                let verified = key.verify(token, SystemTime::now());
                verified.map_err(|error| Status::unauthenticated(error.to_string()))
            }
            Self::Kubernetes(reviewer) => reviewer.node_of(token).await.map_err(Status::from),
        }
    }
}

/// The token of a call.
///
/// # Errors
/// When it has none.
pub(crate) fn token<T>(call: &Request<T>) -> Result<&str, Status> {
    let header = call.metadata().get("authorization");
    let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.filter(|token| !token.is_empty());
    token.ok_or_else(|| Status::unauthenticated("no token (authorization: Bearer <token>)"))
}
