//! The mesh's certificate authority.
//!
//! * `authority`: signs, with what it has now
//! * `material`, `leaf`: what it signs with, and what it signs
//! * `directory`, `secret`: where it is kept
//! * `revocation`: what counts no more of what it signed
//! * `rotation`: how one root follows another
//! * `join_token`: who may ask, where there is no API server

mod authority;
mod directory;
mod error;
pub(crate) mod join_token;
mod leaf;
mod material;
mod private_file;
mod revocation;
mod rotation;
mod secret;

pub(crate) use authority::Authority;
pub(crate) use directory::Folder;
pub(crate) use error::AuthorityError;
pub use leaf::InvalidRequest;
pub(crate) use leaf::Request;
pub use revocation::{InvalidRevocations, check_revocation_lists};
pub(crate) use rotation::{Guard, RotationError, Step};
pub(crate) use secret::{AuthoritySecret, Place};

/// Whom a certification request (PKCS #10, DER) asks a certificate for, when it is one
/// that could be signed.
///
/// # Errors
/// The reason to refuse it.
pub fn check_request(der: &[u8]) -> Result<weft_model::SpiffeId, InvalidRequest> {
    Request::parse(der).map(|request| request.identity)
}
