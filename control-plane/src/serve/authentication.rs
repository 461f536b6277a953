//! Who a call comes from: a node's agent, or a pod's sidecar.

mod claims;
mod principal;
mod token_review;

use std::sync::Arc;
use std::time::SystemTime;

use tonic::{Request, Status};

use super::accept::Caller;
use crate::ca::join_token::{Bearer, JoinKey};
pub(crate) use principal::{PodPrincipal, Principal};
pub(crate) use token_review::{TokenReviewer, TokenReviewerOptions};

/// The authority that vouches for agents and sidecars.
#[derive(Clone)]
pub(crate) enum Authenticator {
    /// This control plane itself, by tokens that it made.
    JoinTokens(Arc<JoinKey>),
    /// Kubernetes, by the token of a ServiceAccount that is bound to a pod.
    Kubernetes(Arc<TokenReviewer>),
}

impl Authenticator {
    /// The one that a call's token speaks for.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `PERMISSION_DENIED` with what to do about it;
    /// `UNAVAILABLE` when the API server can't be asked.
    pub(crate) async fn principal<T>(&self, call: &Request<T>) -> Result<Principal, Status> {
        let principal = self.principal_of(token(call)?).await.inspect_err(|error| {
            let peer = call.extensions().get::<Caller>().map(Caller::peer);
            tracing::warn!(reason = error.message(), ?peer, "refused a call");
        })?;
        is_known(call, &principal.to_string())?;
        Ok(principal)
    }

    /// The one that a token speaks for now.
    ///
    /// # Errors
    /// As [`Authenticator::principal`].
    pub(crate) async fn principal_of(&self, token: &str) -> Result<Principal, Status> {
        match self {
            Self::JoinTokens(key) => {
                let verified = key.verify(token, SystemTime::now());
                match verified {
                    Ok(Bearer::Node(node)) => Ok(Principal::Agent { node }),
                    Ok(Bearer::Pod(pod)) => Ok(Principal::Sidecar(PodPrincipal {
                        name: pod.0,
                        uid: None,
                        service_account: None,
                    })),
                    Err(error) => Err(Status::unauthenticated(error.to_string())),
                }
            }
            Self::Kubernetes(reviewer) => reviewer.principal_of(token).await.map_err(Status::from),
        }
    }
}

/// The caller has shown for whom it speaks: its connection is a stranger's no more.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` when that node or pod has as many connections as it may.
pub(crate) fn is_known<T>(call: &Request<T>, principal: &str) -> Result<(), Status> {
    match call.extensions().get::<Caller>() {
        Some(caller) if !caller.is_known(principal) => {
            let message = format!("{principal} has too many connections");
            Err(Status::resource_exhausted(message))
        }
        _ => Ok(()),
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
