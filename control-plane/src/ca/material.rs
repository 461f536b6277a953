//! The key and the certificates of an authority.

use std::time::{Duration as StdDuration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use time::{Duration, OffsetDateTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::leaf;

/// Lifetime of a new root.
const LIFETIME: Duration = Duration::days(3650);
/// Clocks differ: certificates count from a little earlier.
pub(super) const BACKDATE: Duration = Duration::minutes(10);

/// A reason for certificates and key to be no authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaterialError {
    /// Something isn't PEM, or empty.
    #[error("{what}: {reason}")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// The mistake in it.
        reason: String,
    },
    /// Nothing that it signs would be accepted.
    #[error(
        "what it signs doesn't verify ({0}): certificate and key have to belong together, the \
         certificate has to be that of an authority that may sign leaves, and lead to one of the roots"
    )]
    Useless(webpki::Error),
    /// No certificate can be made with it.
    #[error("no certificate can be made with it: {0}")]
    Sign(#[from] rcgen::Error),
}

/// PEM texts as they are stored, in the shape of a `kubernetes.io/tls` Secret and of
/// what cert-manager writes.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Pem {
    /// The issuing certificate, then those between it and a root.
    pub(crate) certificate: String,
    /// The issuing certificate's key.
    pub(crate) key: String,
    /// All roots that are trusted.
    pub(crate) roots: String,
}

/// Without the key.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem")
            .field("certificate", &self.certificate)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

/// A key that signs, and who vouches for it.
pub(crate) struct Material {
    issuer: Issuer<'static, KeyPair>,
    /// Certificates that leaves are sent with: all between them and the root.
    intermediates: Vec<CertificateDer<'static>>,
    /// The certificate of the one that signs.
    issuing: CertificateDer<'static>,
    roots: Vec<CertificateDer<'static>>,
    roots_pem: String,
    not_after: OffsetDateTime,
    /// The text it was made from.
    pem: Pem,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("intermediates", &self.intermediates.len())
            .field("roots", &self.roots.len())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// Checks what was stored, by signing something with it.
    ///
    /// # Errors
    /// When nothing that it signs would be accepted.
    pub(crate) fn parse(pem: &Pem) -> Result<Self, MaterialError> {
        let chain = certificates("the issuing certificate (tls.crt)", &pem.certificate)?;
        let roots = certificates("the roots (ca.crt)", &pem.roots)?;
        let unreadable = |what, reason: String| MaterialError::Unreadable { what, reason };
        let key = "the issuing key (tls.key)";
        let der = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
            .map_err(|error| unreadable(key, error.to_string()))?;
        let secret = KeyPair::try_from(&der).map_err(|error| unreadable(key, error.to_string()))?;
        let issuing = &chain[0];
        let (_, parsed) = X509Certificate::from_der(issuing)
            .map_err(|error| unreadable("the issuing certificate (tls.crt)", error.to_string()))?;
        let not_after = parsed.validity().not_after.to_datetime();
        let issuer = Issuer::from_ca_cert_der(issuing, secret)?;
        let issuing = issuing.clone();
        // A root is known to whoever verifies.
        let intermediates = chain.into_iter().filter(|one| !roots.contains(one));
        let material = Self {
            issuer,
            intermediates: intermediates.collect(),
            issuing,
            roots,
            roots_pem: pem.roots.trim().to_owned() + "\n",
            not_after,
            pem: pem.clone(),
        };
        material.try_out()?;
        Ok(material)
    }

    /// A new root that signs leaves itself.
    ///
    /// # Errors
    /// When no key can be made.
    pub(crate) fn generate() -> Result<Pem, rcgen::Error> {
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
        let certificate = root.self_signed(&secret)?.pem();
        Ok(Pem {
            roots: certificate.clone(),
            certificate,
            key: secret.serialize_pem(),
        })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// From when to when a leaf that is made now is valid: never longer than whoever
    /// signs it.
    pub(super) fn validity(&self, lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
        let now = OffsetDateTime::now_utc();
        (now - BACKDATE, (now + lifetime).min(self.not_after))
    }

    /// A leaf with everything between it and the root.
    pub(super) fn chain(&self, leaf: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![leaf];
        chain.extend(self.intermediates.iter().cloned());
        chain
    }

    /// True when it was made from this.
    pub(super) fn is_of(&self, pem: &Pem) -> bool {
        &self.pem == pem
    }

    /// Certificates that leaves are verified against.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Certificates whose keys may revoke others.
    pub(super) fn issuers(&self) -> Vec<CertificateDer<'static>> {
        let others = self.roots.iter().chain(&self.intermediates);
        [&self.issuing].into_iter().chain(others).cloned().collect()
    }

    /// The same as PEM.
    pub(crate) fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    fn try_out(&self) -> Result<(), MaterialError> {
        let name = "trial.weft.invalid".to_owned();
        let validity = self.validity(Duration::MINUTE);
        let (leaf, _) = leaf::server(&[name], validity, &self.issuer)?;
        let leaf = EndEntityCert::try_from(&leaf).map_err(MaterialError::Useless)?;
        let anchors: Vec<_> = self
            .roots
            .iter()
            .filter_map(|root| webpki::anchor_from_trusted_cert(root).ok())
            .collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &self.intermediates,
            UnixTime::since_unix_epoch(now.unwrap_or(StdDuration::ZERO)),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map(drop)
        .map_err(MaterialError::Useless)
    }
}

/// At least one.
fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let unreadable = |reason: String| MaterialError::Unreadable { what, reason };
    let parsed = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let parsed = parsed.map_err(|error| unreadable(error.to_string()))?;
    if parsed.is_empty() {
        return Err(unreadable("holds no certificate".to_owned()));
    }
    Ok(parsed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An authority below a root, as cert-manager plugs in.
    pub(in crate::ca) fn intermediate(root: &Pem, lifetime: Duration, is_ca: bool) -> Pem {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = match is_ca {
            true => IsCa::Ca(BasicConstraints::Constrained(0)),
            false => IsCa::ExplicitNoCa,
        };
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = OffsetDateTime::now_utc() + lifetime;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "intermediate");
        let root_key = KeyPair::from_pem(&root.key).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&root.certificate, root_key).unwrap();
        Pem {
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
            roots: root.roots.clone(),
        }
    }

    #[test]
    fn a_generated_root_signs_and_is_not_sent_along() {
        let material = Material::parse(&Material::generate().unwrap()).unwrap();
        assert_eq!(material.roots().len(), 1);
        assert!(material.intermediates.is_empty());
    }

    #[test]
    fn an_intermediate_is_sent_along_and_its_leaves_end_before_it() {
        let root = Material::generate().unwrap();
        let pem = intermediate(&root, Duration::HOUR, true);
        let material = Material::parse(&pem).unwrap();
        assert_eq!(material.intermediates.len(), 1);
        let (_, end) = material.validity(Duration::days(1));
        assert!(end <= OffsetDateTime::now_utc() + Duration::HOUR);
    }

    #[test]
    fn what_would_sign_in_vain_is_refused() {
        let root = Material::generate().unwrap();
        let other = Material::generate().unwrap();
        let useless = |pem: &Pem| {
            let refused = Material::parse(pem).map(|_| ()).unwrap_err();
            assert!(matches!(refused, MaterialError::Useless(_)), "{refused}");
        };
        let anothers_key = Pem {
            key: other.key.clone(),
            ..root.clone()
        };
        useless(&anothers_key);
        let without_its_root = Pem {
            roots: other.roots.clone(),
            ..intermediate(&root, Duration::HOUR, true)
        };
        useless(&without_its_root);
        useless(&intermediate(&root, -Duration::MINUTE, true));
        useless(&intermediate(&root, Duration::HOUR, false));
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = Material::generate().unwrap();
        let broken = |change: fn(&mut Pem)| {
            let mut pem = root.clone();
            change(&mut pem);
            Material::parse(&pem).map(|_| ()).unwrap_err().to_string()
        };
        assert!(broken(|pem| pem.certificate.clear()).contains("tls.crt"));
        assert!(broken(|pem| pem.key = "x".into()).contains("tls.key"));
        assert!(broken(|pem| pem.roots.clear()).contains("ca.crt"));
    }

    #[test]
    fn two_roots_are_trusted_while_one_replaces_the_other() {
        let (old, new) = (Material::generate().unwrap(), Material::generate().unwrap());
        let both = Pem {
            roots: format!("{}{}", old.roots, new.roots),
            ..new
        };
        let material = Material::parse(&both).unwrap();
        assert_eq!(material.roots().len(), 2);
        assert!(material.intermediates.is_empty());
    }
}
