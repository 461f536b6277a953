//! The authority: signs with what it has now, which may be replaced while it runs.

use std::sync::Arc;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use time::Duration;
use tokio::sync::watch;

use super::leaf;
use super::material::{Material, Pem};

/// Signs certificates.
#[derive(Debug)]
pub(crate) struct Authority {
    material: watch::Sender<Arc<Material>>,
    leaf_lifetime: Duration,
}

impl Authority {
    /// An authority that signs with this.
    pub(crate) fn new(material: Material, leaf_lifetime: Duration) -> Self {
        Self {
            material: watch::Sender::new(Arc::new(material)),
            leaf_lifetime,
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
