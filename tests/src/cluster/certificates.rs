//! The certificate authority of a cluster under test.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::error::{Error, Result};

/// Signs servers and clients; API servers take a client's common name for the user and
/// its organizations for the groups.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When keys can't be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Kubernetes under test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        Ok(Self { issuer })
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Its own certificate and key.
    pub(super) fn credential(&self) -> Credential {
        Credential {
            certificate: self.certificate(),
            key: self.issuer.key().serialize_pem(),
        }
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Credential> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// A certificate for a server, such as an API server or a webhook.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn server(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Credential> {
        let names = names.iter().map(|name| (*name).to_owned());
        let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(failed)?;
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Credential> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Credential {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Credential {
    /// Writes `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<()> {
        for (end, text) in [("crt", &self.certificate), ("key", &self.key)] {
            let path = directory.join(format!("{name}.{end}"));
            fs::write(&path, text).map_err(Error::system(format!("write {}", path.display())))?;
        }
        Ok(())
    }
}

fn failed(error: rcgen::Error) -> Error {
    Error::Unreadable(format!("can't make a certificate: {error}"))
}
