//! A fresh key and the request to certify it.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use weft_model::SpiffeId;

/// Why no key or request could be made. A defect of this process or machine, not
/// of its input.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Generating the key or writing the request failed.
    #[error("can't make a certificate request for {identity}: {error}")]
    Generate {
        /// For whom.
        identity: SpiffeId,
        /// What the library said.
        error: rcgen::Error,
    },
    /// The fresh key can't be used for TLS.
    #[error("can't use a fresh key for {identity}: {error}")]
    Key {
        /// For whom.
        identity: SpiffeId,
        /// What the library said.
        error: rustls::Error,
    },
}

/// A key that nobody else has, and the request that names whom it is for.
#[derive(Debug)]
pub struct CertificateRequest {
    /// The private key, for TLS.
    pub key: Arc<dyn SigningKey>,
    /// PKCS #10 (RFC 2986), DER: ECDSA P-256, an empty subject, the SPIFFE ID as
    /// the one subject alternative name (X509-SVID section 2).
    pub der: Vec<u8>,
}

impl CertificateRequest {
    /// A request with a new key.
    ///
    /// # Errors
    /// When the machine can't generate keys.
    pub fn generate(identity: &SpiffeId) -> Result<Self, RequestError> {
        let failed = |error| RequestError::Generate {
            identity: identity.clone(),
            error,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        let name = identity.to_string().try_into().map_err(failed)?;
        parameters.subject_alt_names = vec![SanType::URI(name)];
        let request = parameters.serialize_request(&key).map_err(failed)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&private).map_err(|error| {
            RequestError::Key {
                identity: identity.clone(),
                error,
            }
        })?;
        Ok(Self {
            key,
            der: request.der().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::*;

    #[test]
    fn a_request_names_the_identity_and_nothing_else() {
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let request = CertificateRequest::generate(&identity).unwrap();
        let (rest, parsed) = X509CertificationRequest::from_der(&request.der).unwrap();
        assert!(rest.is_empty());
        parsed.verify_signature().unwrap();
        assert_eq!(parsed.certification_request_info.subject.iter().count(), 0);
        let names: Vec<_> = parsed
            .requested_extensions()
            .unwrap()
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(
            names,
            [&GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]
        );
    }

    #[test]
    fn every_request_has_a_key_of_its_own() {
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let [one, two] = [(), ()].map(|()| CertificateRequest::generate(&identity).unwrap());
        assert_ne!(one.key.public_key(), two.key.public_key());
    }
}
