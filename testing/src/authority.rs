//! A certificate authority that issues whatever a test asks for: good certificates, and
//! those that nobody should take.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType, SerialNumber,
};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use weft_model::SpiffeId;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    root_pem: String,
}

/// A certificate to be issued, for servers and for clients.
#[derive(Clone, Debug)]
pub struct Leaf {
    name: SanType,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// A certificate with its private key.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS #8 in PEM.
    pub key_pem: String,
    /// When the certificate expires.
    pub not_after: SystemTime,
    /// The private key, PKCS #8 in DER.
    key: Vec<u8>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// An authority with a new key.
    pub fn new() -> Self {
        let (root, key) = (authority_params("root"), new_key());
        let certificate = root.self_signed(&key).unwrap();
        Self {
            root: certificate.der().clone(),
            root_pem: certificate.pem(),
            issuer: Issuer::new(root, key),
        }
    }

    /// An authority that exists, from the PEM of its certificate and its key, in this order.
    pub fn from_pem(pem: &str) -> Self {
        let end = "-----END CERTIFICATE-----\n";
        let (certificate, _) = pem.split_once(end).unwrap();
        let root_pem = format!("{certificate}{end}");
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = KeyPair::try_from(&key).unwrap();
        Self {
            issuer: Issuer::from_ca_cert_pem(&root_pem, key).unwrap(),
            root: CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap(),
            root_pem,
        }
    }

    /// Its own certificate, DER.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Its own certificate, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Itself as the only root.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        Arc::new(roots)
    }

    /// Issues a certificate for a new key.
    pub fn issue(&self, leaf: &Leaf) -> Credential {
        self.certify(&leaf.params())
    }

    fn certify(&self, params: &CertificateParams) -> Credential {
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Credential {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_after: params.not_after.into(),
            key: key.serialize_der(),
        }
    }

    /// Issues a certificate of another authority, below this one.
    pub fn subordinate(&self, common_name: &str) -> Credential {
        self.certify(&authority_params(common_name))
    }

    /// A good certificate of a workload.
    pub fn workload(&self, identity: &SpiffeId) -> Credential {
        self.issue(&Leaf::workload(identity))
    }

    /// A list that revokes these serial numbers, PEM.
    pub fn revocation_list(&self, serials: &[Vec<u8>]) -> String {
        let now = SystemTime::now();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: (now - MINUTE).into(),
            next_update: (now + HOUR).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// What signs for it.
    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

impl Leaf {
    /// Of a workload.
    pub fn workload(identity: &SpiffeId) -> Self {
        Self::uri(&identity.to_string())
    }

    /// Of whoever has this URI, which needs not be a SPIFFE ID.
    pub fn uri(uri: &str) -> Self {
        Self::new(SanType::URI(uri.try_into().unwrap()))
    }

    /// Of a server with this DNS name or address.
    pub fn server(name: &str) -> Self {
        let address = name.parse::<IpAddr>().map(SanType::IpAddress);
        Self::new(address.unwrap_or_else(|_| SanType::DnsName(name.try_into().unwrap())))
    }

    fn new(name: SanType) -> Self {
        let now = SystemTime::now();
        Self {
            name,
            not_before: now - MINUTE,
            not_after: now + HOUR,
        }
    }

    /// Over since an hour ago.
    #[must_use]
    pub fn expired(self) -> Self {
        let now = SystemTime::now();
        self.valid(now - 2 * HOUR, now - HOUR)
    }

    /// Not valid for another hour.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        let now = SystemTime::now();
        self.valid(now + HOUR, now + 2 * HOUR)
    }

    /// The same, valid between those times.
    #[must_use]
    pub fn valid(self, not_before: SystemTime, not_after: SystemTime) -> Self {
        Self {
            not_before,
            not_after,
            ..self
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = self.not_before.into();
        params.not_after = self.not_after.into();
        params.subject_alt_names = vec![self.name.clone()];
        params.extended_key_usages = usages();
        params
    }
}

impl Credential {
    /// The private key, as rustls reads it.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone().into())
    }

    /// The certificate and a key that signs.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        let key = aws_lc_rs::sign::any_ecdsa_type(&self.key()).unwrap();
        Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key))
    }
}

/// A certificate request for this URI and a new key: PKCS #10 (RFC 2986), DER.
pub fn certificate_request(uri: &str) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    let request = params.serialize_request(&new_key()).unwrap();
    request.der().to_vec()
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // OpenSSL knows an issuer by its name, too.
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// Uses of a workload's certificate: it is server and client.
pub(crate) fn usages() -> Vec<ExtendedKeyUsagePurpose> {
    vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ]
}
