//! Peers whose certificates are revoked: refused, and cut where they are connected.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use weft_model::revocation::{CertificateId, RevocationList};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::verify::InvalidPeer;

/// The list that holds now, and notice of the next.
pub(crate) type Revocations = watch::Receiver<Arc<RevocationList>>;

/// The certificates that a peer has shown: its own, and those between it and a root.
#[derive(Clone, Debug)]
pub(crate) struct ShownCertificates(Arc<[CertificateId]>);

impl ShownCertificates {
    /// Those of a chain.
    ///
    /// # Errors
    /// When one can't be read: nobody could say whether it is revoked.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, InvalidPeer> {
        let chain = chain.ok_or(InvalidPeer::NoCertificate)?;
        let ids = chain.iter().map(|certificate| {
            let (_, parsed) =
                X509Certificate::from_der(certificate).map_err(|_| InvalidPeer::Malformed)?;
            Ok(CertificateId {
                issuer: parsed.tbs_certificate.issuer.as_raw().into(),
                serial: parsed.raw_serial().into(),
            })
        });
        Ok(Self(ids.collect::<Result<_, InvalidPeer>>()?))
    }

    /// Accepts them where none is revoked now.
    ///
    /// # Errors
    /// When one is.
    pub(crate) fn verify(&self, revocations: &Revocations) -> Result<(), InvalidPeer> {
        match self.revoked(&revocations.borrow()) {
            Some(revoked) => Err(InvalidPeer::Revoked(serial(revoked))),
            None => Ok(()),
        }
    }

    /// Resolves when one of them is revoked.
    pub(crate) async fn until_revoked(&self, mut revocations: Revocations) -> InvalidPeer {
        loop {
            if let Err(revoked) = self.verify(&revocations) {
                return revoked;
            }
            if revocations.changed().await.is_err() {
                // The store is gone, and with it everything else.
                std::future::pending::<()>().await;
            }
        }
    }

    fn revoked(&self, list: &RevocationList) -> Option<&CertificateId> {
        self.0.iter().find(|certificate| list.contains(certificate))
    }
}

/// Hexadecimal octets with colons, as of our own certificates.
fn serial(certificate: &CertificateId) -> String {
    let octets: Vec<_> = certificate
        .serial
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    octets.join(":")
}
