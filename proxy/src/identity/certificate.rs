//! A workload's certificate.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use weft_model::SpiffeId;

/// A certificate that was checked, with its key and what to verify peers against.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Chain (leaf first) and private key.
    pub key: Arc<CertifiedKey>,
    /// Whom it certifies.
    pub identity: SpiffeId,
    /// The roots that peers' certificates are verified against.
    pub roots: Arc<RootCertStore>,
    /// When it expires.
    pub not_after: SystemTime,
    /// Its serial number, hexadecimal octets with colons.
    pub serial: String,
}
