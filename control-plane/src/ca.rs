//! The mesh's certificate authority.

mod authority;
pub(crate) mod join_token;
mod leaf;
mod material;
mod private_file;
mod secret;

pub(crate) use authority::Authority;
pub use leaf::InvalidRequest;
pub(crate) use leaf::Request;
pub(crate) use material::MaterialError;
pub(crate) use secret::Place;

use std::io;
use std::path::PathBuf;

/// Whom a certification request (PKCS #10, DER) asks a certificate for, when it is one
/// that could be signed.
///
/// # Errors
/// Why it could not.
pub fn check_request(der: &[u8]) -> Result<weft_model::SpiffeId, InvalidRequest> {
    Request::parse(der).map(|request| request.identity)
}

/// Why there is no certificate authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
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
        /// Where they are.
        place: String,
        /// What is wrong.
        source: MaterialError,
    },
    /// The API server doesn't give it out, or take it.
    #[error("{place}: {source}; check the API server, and the control plane's Role")]
    Cluster {
        /// The object.
        place: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// No certificate could be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A key that belongs to nobody.
    #[error(
        "{0} is damaged: a join key has 32 bytes; remove it to make a new one (tokens made with it end)"
    )]
    JoinKey(PathBuf),
}
