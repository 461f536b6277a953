//! Errors of capturing a pod.

use std::io;

use weft_model::SpiffeId;

use crate::namespaces::PodNamespaceError;
use crate::redirect::{ProbedDirection, RedirectError};

/// A reason that a pod isn't captured, or isn't in the form that is wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error(transparent)]
    Namespace(#[from] PodNamespaceError),
    #[error("can't read the addresses of the pod's network namespace: {0}")]
    Addresses(io::Error),
    #[error("the pod's network namespace has no address yet")]
    NoAddress,
    #[error(
        "none of the pod's addresses is in its network namespace: where a sandboxed runtime such as \
         gVisor keeps them, the pod's connections are not this kernel's and can't be captured"
    )]
    Sandboxed,
    #[error("no certificate for {identity}: {reason}")]
    Certificate { identity: SpiffeId, reason: String },
    #[error("can't listen in the pod's network namespace: {0}")]
    Proxy(io::Error),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error(
        "a {direction} connection that was tried ({family}) did not come to the proxy: {reason}; something \
         else in the pod's network namespace redirects or drops what the kernel hands over, such as \
         the iptables rules of another mesh: take that out of the pod"
    )]
    Unverified {
        direction: ProbedDirection,
        family: &'static str,
        reason: String,
    },
    #[error("something else is wanted meanwhile")]
    Superseded,
}

impl CaptureError {
    /// Nothing that anybody needs to hear of: it is over in a moment.
    pub(crate) fn is_momentary(&self) -> bool {
        matches!(
            self,
            Self::Namespace(PodNamespaceError::Ending | PodNamespaceError::LookedFor(_))
                | Self::Superseded
        )
    }
}
