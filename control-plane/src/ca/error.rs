//! Errors of the certificate authority, for whoever runs the control plane.

use std::io;
use std::path::PathBuf;

use super::material::MaterialError;
use super::revocation::InvalidRevocations;

/// A reason not to have a certificate authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The certificate is there without its key, or the other way round.
    #[error(
        "{missing} is missing beside its counterpart; restore it from a backup, or remove both \
         to start a new mesh (every agent then needs the new root)"
    )]
    Half {
        /// The file that isn't there.
        missing: PathBuf,
    },
    /// Certificate or key can't be used.
    #[error("{place}: {source}")]
    Invalid {
        /// Their place.
        place: String,
        /// The mistake.
        source: MaterialError,
    },
    /// The API server doesn't give it out, or take it.
    #[error("{place}: {source}; check the API server, and the control plane's Role")]
    Cluster {
        /// The object.
        place: String,
        /// Its words.
        source: Box<kube::Error>,
    },
    /// The rotation that is under way can't be read.
    #[error(
        "{place}: {source}; restore it from a backup, or remove it (the roots stay as they are)"
    )]
    Rotation {
        /// The place where it is kept.
        place: String,
        /// The mistake.
        source: serde_json::Error,
    },
    /// Somebody else was faster.
    #[error("{0} was changed by somebody else meanwhile: look at its status, then try again")]
    Conflict(String),
    /// It belongs to cert-manager.
    #[error(
        "{0} is written by cert-manager, which would undo this: renew the certificate there, and \
         keep the old root in ca.crt until every leaf was renewed"
    )]
    CertManager(String),
    /// No certificate could be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate revocation lists that aren't followed.
    #[error("{place}: {source}")]
    Revocations {
        /// Their place.
        place: String,
        /// The mistake.
        source: InvalidRevocations,
    },
    /// There is no key to make tokens with.
    #[error(
        "there is no {0}: is that the state directory of a control plane? It makes the key when it \
         starts for the first time"
    )]
    NoJoinKey(PathBuf),
    /// A key that belongs to nobody.
    #[error(
        "{0} is damaged: a join key has 32 bytes; remove it to make a new one (tokens made with it end)"
    )]
    JoinKey(PathBuf),
}

impl AuthorityError {
    /// Whether to start in spite of lists that aren't followed: agents would take for valid what they
    /// revoke. Those that are surely not of this authority say nothing of what it has issued.
    ///
    /// # Errors
    /// The same, where not.
    pub(super) fn at_start(self) -> Result<(), Self> {
        match self {
            Self::Revocations { source, .. } if source.is_of_others() => {
                tracing::error!(error = %source, "certificate revocation lists aren't followed");
                Ok(())
            }
            other => Err(other),
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
