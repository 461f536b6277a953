//! Whether a connection may reach the pod. The decisions are the model's; authorization is a
//! subscription: it is asked for again whenever the mesh changes.

use std::net::SocketAddr;

use weft_model::SpiffeId;
use weft_model::authorization::{PlaintextOrigin, authorize_plaintext, authorize_tunnel};
use weft_model::workload::Workload;

use super::error::InboundError;
use crate::telemetry::StillAllowed;

/// What a connection has to show for itself.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// The identity that its client proved by mutual TLS.
    MutualTls {
        /// The client's identity.
        identity: SpiffeId,
        /// Where the tunnel's own connection was made to.
        connection: SocketAddr,
    },
    /// The identity of a pod of this node, for which this process vouches.
    SameNode {
        /// That pod's identity.
        identity: SpiffeId,
    },
    /// Nothing but where it comes from.
    Plaintext {
        /// What the kernel has recorded of it.
        origin: PlaintextOrigin,
    },
}

impl Credentials {
    /// The identity that is proven.
    pub(super) fn identity(&self) -> Option<&SpiffeId> {
        match self {
            Self::MutualTls { identity, .. } | Self::SameNode { identity } => Some(identity),
            Self::Plaintext { .. } => None,
        }
    }

    /// Whether a connection to that address of a workload is allowed.
    ///
    /// # Errors
    /// Why it isn't.
    pub(super) fn authorize(
        &self,
        workload: &Workload,
        destination: SocketAddr,
    ) -> Result<(), InboundError> {
        match self {
            Self::MutualTls {
                identity,
                connection,
            } => authorize_tunnel(workload, identity, destination, *connection)?,
            Self::SameNode { identity } => {
                authorize_tunnel(workload, identity, destination, destination)?;
            }
            Self::Plaintext { origin } => authorize_plaintext(workload.mtls_mode, *origin)?,
        }
        Ok(())
    }

    /// The same question, to be asked again whenever the mesh changes.
    pub(super) fn still_allowed(&self, destination: SocketAddr) -> StillAllowed {
        let credentials = self.clone();
        Box::new(move |now: &Workload| credentials.authorize(now, destination).is_ok())
    }
}
