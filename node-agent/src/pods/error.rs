//! Errors of capturing a pod.

use std::io;

use weft_model::SpiffeId;

use crate::namespaces::PodNamespaceError;
use crate::redirect::RedirectError;

/// A reason that a pod isn't captured, or isn't in the form that is wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error(transparent)]
    Namespace(#[from] PodNamespaceError),
    #[error("can't read the addresses of the pod's network namespace: {0}")]
    Addresses(io::Error),
    #[error("the pod's network namespace has no address yet")]
    NoAddress,
    #[error("no certificate for {identity}: {reason}")]
    Certificate { identity: SpiffeId, reason: String },
    #[error("can't listen in the pod's network namespace: {0}")]
    Proxy(io::Error),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error("something else is wanted meanwhile")]
    Superseded,
}

impl CaptureError {
    /// Nothing that anybody needs to hear of: it is over in a moment.
    pub(crate) fn is_momentary(&self) -> bool {
        matches!(
            self,
            Self::Namespace(PodNamespaceError::Ending) | Self::Superseded
        )
    }
}
