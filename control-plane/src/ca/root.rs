//! The root: made at the first start, kept in the state directory.

use std::path::{Path, PathBuf};
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use super::leaf;
use super::{AuthorityError, private_file};

/// How long a new root lasts.
const LIFETIME: Duration = Duration::days(3650);
/// Clocks differ: certificates count from a little earlier.
pub(super) const BACKDATE: Duration = Duration::minutes(1);

/// A key that signs, and the root that vouches for it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    leaf_lifetime: Duration,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("leaf_lifetime", &self.leaf_lifetime)
            .finish_non_exhaustive()
    }
}

impl Authority {
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
        let invalid = |path: &PathBuf| {
            let path = path.clone();
            move |source| AuthorityError::Invalid { path, source }
        };
        let secret = KeyPair::from_pem(&secret).map_err(invalid(&key))?;
        let root =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| AuthorityError::Io {
                path: certificate.clone(),
                source: io::Error::other(error.to_string()),
            })?;
        let issuer = Issuer::from_ca_cert_pem(&pem, secret).map_err(invalid(&certificate))?;
        Ok(Self {
            issuer,
            root,
            leaf_lifetime,
        })
    }

    /// The root, DER.
    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Signs a checked request.
    pub(crate) fn sign(
        &self,
        request: &leaf::Request,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let now = OffsetDateTime::now_utc();
        let validity = (now - BACKDATE, now + self.leaf_lifetime);
        leaf::sign(request, validity, &self.issuer)
    }

    /// A certificate for the control plane itself.
    pub(crate) fn server_certificate(
        &self,
        names: &[String],
    ) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
        let now = OffsetDateTime::now_utc();
        leaf::server(
            names,
            (now - BACKDATE, now + self.leaf_lifetime),
            &self.issuer,
        )
    }
}

fn create(certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
    let now = OffsetDateTime::now_utc();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    root.not_before = now - BACKDATE;
    root.not_after = now + LIFETIME;
    root.distinguished_name = DistinguishedName::new();
    root.distinguished_name
        .push(DnType::OrganizationName, "Weft");
    root.distinguished_name
        .push(DnType::CommonName, "Weft mesh root");
    let secret = KeyPair::generate()?;
    let signed = root.self_signed(&secret)?;
    let write = |path: &Path, result: io::Result<()>| {
        result.map_err(|source| AuthorityError::Io {
            path: path.to_path_buf(),
            source,
        })
    };
    write(
        key,
        private_file::create(key, secret.serialize_pem().as_bytes()),
    )?;
    write(certificate, fs::write(certificate, signed.pem()))?;
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
        assert_eq!(first.root(), again.root());
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
}
