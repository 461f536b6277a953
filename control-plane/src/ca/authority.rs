//! The authority: signs with what it has now, which may be replaced while it runs.

use std::sync::Arc;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use weft_model::revocation::RevocationList;

use super::leaf;
use super::material::{Material, Pem};
use super::revocation::{self, InvalidRevocations};
use crate::cluster::Cluster;

/// Signs certificates.
#[derive(Debug)]
pub(crate) struct Authority {
    material: watch::Sender<Arc<Material>>,
    leaf_lifetime: Duration,
    /// What was handed in as certificate revocation lists last, and what holds of it.
    revocations: watch::Sender<Revocations>,
}

/// What is revoked, and the text that it was read from.
#[derive(Debug, Default)]
struct Revocations {
    pem: Vec<u8>,
    list: Arc<RevocationList>,
}

impl Authority {
    /// An authority that signs with this.
    pub(crate) fn new(material: Material, leaf_lifetime: Duration) -> Self {
        Self {
            material: watch::Sender::new(Arc::new(material)),
            leaf_lifetime,
            revocations: watch::Sender::default(),
        }
    }

    /// Signs with this from now on.
    pub(super) fn replace(&self, material: Material) {
        self.material.send_replace(Arc::new(material));
    }

    /// True when it signs with this.
    pub(super) fn is_of(&self, pem: &Pem) -> bool {
        self.now().is_of(pem)
    }

    /// The material that it signs with now, and from now on.
    pub(crate) fn material(&self) -> watch::Receiver<Arc<Material>> {
        self.material.subscribe()
    }

    /// The roots that certificates are verified against, DER.
    pub(crate) fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.now().roots().to_vec()
    }

    /// Signs a checked request: the leaf, and what leads from it to a root.
    pub(crate) fn sign(
        &self,
        request: &leaf::Request,
    ) -> Result<Vec<CertificateDer<'static>>, rcgen::Error> {
        let material = self.now();
        let validity = material.validity(self.leaf_lifetime);
        let leaf = leaf::sign(request, validity, material.issuer())?;
        Ok(material.chain(leaf))
    }

    /// A certificate for the control plane itself, with what leads to a root.
    pub(crate) fn server_certificate(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, KeyPair), rcgen::Error> {
        let material = self.now();
        let validity = material.validity(self.leaf_lifetime);
        let (leaf, key) = leaf::server(names, validity, material.issuer())?;
        Ok((material.chain(leaf), key))
    }

    /// Takes in certificate revocation lists, PEM, none where nothing is revoked. What isn't the
    /// authority's, or can't be read, leaves everything as it was.
    ///
    /// # Errors
    /// Why they aren't followed.
    pub(super) fn revoke(&self, pem: &[u8]) -> Result<(), InvalidRevocations> {
        if self.revocations.borrow().pem == pem {
            return Ok(());
        }
        let list = match pem.is_empty() {
            true => RevocationList::default(),
            false => {
                let issuers = self.now().issuers();
                let verified = revocation::parse(pem, &issuers, OffsetDateTime::now_utc())?;
                for error in &verified.of_others {
                    tracing::warn!(%error, "a certificate revocation list doesn't count: take it out");
                }
                for issuer in &verified.expired {
                    tracing::warn!(
                        issuer,
                        "the certificate revocation list has expired: what it revokes stays revoked; hand in a newer one"
                    );
                }
                verified.revoked
            }
        };
        tracing::info!(
            certificates = list.len(),
            "these many certificates are revoked"
        );
        self.revocations.send_replace(Revocations {
            pem: pem.to_vec(),
            list: Arc::new(list),
        });
        Ok(())
    }

    /// Number of certificates that are revoked.
    #[cfg(test)]
    pub(super) fn revoked(&self) -> usize {
        self.revocations.borrow().list.len()
    }

    /// Tells a cluster's proxies of what is revoked, now and from now on. Never ends.
    pub(crate) async fn publish_revocations(self: Arc<Self>, cluster: Arc<Cluster>) {
        let mut revocations = self.revocations.subscribe();
        loop {
            let list = Arc::clone(&revocations.borrow_and_update().list);
            cluster.set_revocations(&list);
            if revocations.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lifetime of the leaves that it signs.
    pub(super) fn leaf_lifetime(&self) -> Duration {
        self.leaf_lifetime
    }

    fn now(&self) -> Arc<Material> {
        Arc::clone(&self.material.borrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_signs_no_more() {
        let material = || Material::parse(&Material::generate().unwrap()).unwrap();
        let authority = Authority::new(material(), Duration::HOUR);
        let before = authority.roots();
        authority.replace(material());
        assert_ne!(authority.roots(), before);
    }
}
