//! Leaves: who asks for one, and what is signed.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;
use weft_model::SpiffeId;
use weft_model::identity::InvalidIdentity;

/// Largest certification request in bytes; a P-256 one has a few hundred.
const LARGEST_REQUEST: usize = 8 * 1024;

/// A reason to refuse a certification request.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// Too large to be one.
    #[error("{0} bytes are more than a certification request may have (8 KiB)")]
    TooLarge(usize),
    /// Not PKCS #10, or not signed with its own key.
    #[error("not a certification request that is signed with its own key: {0}")]
    Parse(#[from] rcgen::Error),
    /// Another kind of key.
    #[error("the key is not ECDSA P-256")]
    Key,
    /// Not exactly one name.
    #[error("{0} subject alternative names; exactly one is wanted, the SPIFFE URI")]
    NameCount(usize),
    /// A name of another type.
    #[error("the subject alternative name is not a URI")]
    NotUri,
    /// A URI that is no SPIFFE ID.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
}

/// A request that was checked: a P-256 key whose owner asks for one identity. All
/// else that the request says is dropped.
#[derive(Debug)]
pub(crate) struct Request {
    key: PublicKey,
    name: SanType,
    /// Whom the certificate shall be for.
    pub(crate) identity: SpiffeId,
}

impl Request {
    /// Checks a request as it came over the wire.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, InvalidRequest> {
        if der.len() > LARGEST_REQUEST {
            return Err(InvalidRequest::TooLarge(der.len()));
        }
        let der = CertificateSigningRequestDer::from(der);
        let CertificateSigningRequestParams { params, public_key } =
            CertificateSigningRequestParams::from_der(&der)?;
        // An uncompressed point on P-256 has 65 bytes; P-384 signs with SHA-384.
        let is_p256 = PublicKeyData::algorithm(&public_key) == &PKCS_ECDSA_P256_SHA256;
        if !is_p256 || public_key.der_bytes().len() != 65 {
            return Err(InvalidRequest::Key);
        }
        let [name] = params.subject_alt_names.as_slice() else {
            return Err(InvalidRequest::NameCount(params.subject_alt_names.len()));
        };
        let SanType::URI(uri) = name else {
            return Err(InvalidRequest::NotUri);
        };
        Ok(Self {
            identity: uri.as_str().parse()?,
            name: name.clone(),
            key: public_key,
        })
    }
}

type Validity = (OffsetDateTime, OffsetDateTime);

/// Signs a workload's leaf (X509-SVID section 4): for both ends of a connection, no
/// subject, one URI.
pub(super) fn sign(
    request: &Request,
    validity: Validity,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut leaf = template(validity, vec![request.name.clone()]);
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(leaf.signed_by(&request.key, issuer)?.der().clone())
}

/// Makes the control plane's own leaf, and its key.
pub(super) fn server(
    names: &[String],
    validity: Validity,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let named = CertificateParams::new(names.to_vec())?;
    let mut leaf = template(validity, named.subject_alt_names);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, issuer)?.der().clone();
    Ok((certificate, key))
}

fn template((not_before, not_after): Validity, names: Vec<SanType>) -> CertificateParams {
    let mut leaf = CertificateParams::default();
    (leaf.not_before, leaf.not_after) = (not_before, not_after);
    leaf.distinguished_name = DistinguishedName::new();
    leaf.subject_alt_names = names;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.use_authority_key_identifier_extension = true;
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn request(names: Vec<SanType>, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_p256_request_for_one_identity_is_taken() {
        let key = KeyPair::generate().unwrap();
        let parsed = Request::parse(&request(vec![uri(ID)], &key)).unwrap();
        assert_eq!(parsed.identity.to_string(), ID);
    }

    #[test]
    fn other_keys_are_refused() {
        for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let refused = Request::parse(&request(vec![uri(ID)], &key));
            assert!(matches!(refused, Err(InvalidRequest::Key)), "{refused:?}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let key = KeyPair::generate().unwrap();
        let dns = || SanType::DnsName("control-plane".try_into().unwrap());
        let refused = |names| Request::parse(&request(names, &key)).unwrap_err();
        assert!(matches!(refused(vec![]), InvalidRequest::NameCount(0)));
        assert!(matches!(
            refused(vec![uri(ID), uri(ID)]),
            InvalidRequest::NameCount(2)
        ));
        assert!(matches!(
            refused(vec![uri(ID), dns()]),
            InvalidRequest::NameCount(2)
        ));
        assert!(matches!(refused(vec![dns()]), InvalidRequest::NotUri));
        assert!(matches!(
            refused(vec![uri("https://x")]),
            InvalidRequest::Identity(_)
        ));
    }

    #[test]
    fn a_broken_signature_or_garbage_is_refused() {
        let key = KeyPair::generate().unwrap();
        let mut der = request(vec![uri(ID)], &key);
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(matches!(
            Request::parse(&der),
            Err(InvalidRequest::Parse(_))
        ));
        assert!(matches!(
            Request::parse(b"garbage"),
            Err(InvalidRequest::Parse(_))
        ));
        assert!(matches!(
            Request::parse(&vec![0; 9000]),
            Err(InvalidRequest::TooLarge(9000))
        ));
    }
}
