//! The authority: signs with what it has now, which may be replaced while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use time::Duration;
use tokio::sync::watch;

use super::material::{Material, Pem};
use super::{AuthorityError, leaf, private_file};

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

    /// The authority of a state directory; a new one at its first use.
    pub(crate) fn open(
        state_directory: &Path,
        leaf_lifetime: Duration,
    ) -> Result<Self, AuthorityError> {
        let folder = state_directory.join("ca");
        let (certificate, key) = (folder.join("root.pem"), folder.join("root-key.pem"));
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| AuthorityError::Io { path, source }
        };
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) => {
                fs::create_dir_all(&folder).map_err(failed(&folder))?;
                create(&certificate, &key)?;
            }
            (true, false) => return Err(AuthorityError::Half { missing: key }),
            (false, true) => {
                return Err(AuthorityError::Half {
                    missing: certificate,
                });
            }
        }
        let pem = fs::read_to_string(&certificate).map_err(failed(&certificate))?;
        let secret = fs::read_to_string(&key).map_err(failed(&key))?;
        let pem = Pem {
            roots: pem.clone(),
            certificate: pem,
            key: secret,
        };
        let material = Material::parse(&pem).map_err(|source| AuthorityError::Invalid {
            place: folder.display().to_string(),
            source,
        })?;
        Ok(Self::new(material, leaf_lifetime))
    }

    /// Signs with this from now on.
    pub(super) fn replace(&self, material: Material) {
        self.material.send_replace(Arc::new(material));
    }

    /// What it signs with now, and from now on.
    pub(crate) fn material(&self) -> watch::Receiver<Arc<Material>> {
        self.material.subscribe()
    }

    /// What certificates are verified against, DER.
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

    fn now(&self) -> Arc<Material> {
        Arc::clone(&self.material.borrow())
    }
}

fn create(certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
    let pem = Material::generate()?;
    let write = |path: &PathBuf, result: io::Result<()>| {
        result.map_err(|source| AuthorityError::Io {
            path: path.clone(),
            source,
        })
    };
    let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
    write(&key, private_file::create(&key, pem.key.as_bytes()))?;
    write(&certificate, fs::write(&certificate, pem.certificate))?;
    tracing::info!(root = %certificate.display(), "made a new root certificate");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_root_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path(), Duration::HOUR).unwrap();
        let again = Authority::open(folder.path(), Duration::HOUR).unwrap();
        assert_eq!(first.roots(), again.roots());
        let key = fs::metadata(folder.path().join("ca/root-key.pem")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn half_a_root_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path(), Duration::HOUR).unwrap();
        fs::remove_file(folder.path().join("ca/root-key.pem")).unwrap();
        let error = Authority::open(folder.path(), Duration::HOUR).unwrap_err();
        assert!(
            error.to_string().contains("root-key.pem is missing"),
            "{error}"
        );
    }

    #[test]
    fn what_is_replaced_signs_no_more() {
        let material = || Material::parse(&Material::generate().unwrap()).unwrap();
        let authority = Authority::new(material(), Duration::HOUR);
        let before = authority.roots();
        authority.replace(material());
        assert_ne!(authority.roots(), before);
    }
}
