//! Who the peer is: a chain up to a root of the mesh, and one SPIFFE ID.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};
use weft_model::identity::InvalidIdentity;
use weft_model::{SpiffeId, TrustDomain};

/// Why a peer's certificate doesn't say who it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPeer {
    /// It showed none.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// It isn't X.509.
    #[error("the peer's certificate can't be parsed")]
    Malformed,
    /// SPIFFE wants exactly one URI (X509-SVID section 2).
    #[error("the peer's certificate names {0} URIs; a SPIFFE certificate names exactly one")]
    UriCount(usize),
    /// The URI is no SPIFFE ID.
    #[error("the peer's certificate: {0}")]
    Identity(#[from] InvalidIdentity),
    /// Its authority has revoked it, or one between it and a root.
    #[error("the peer's certificate with serial number {0} is revoked")]
    Revoked(String),
    /// It is someone else.
    #[error("the peer is {found}, expected {expected}")]
    Unexpected {
        /// Whom the connection was meant for.
        expected: SpiffeId,
        /// Who answered.
        found: SpiffeId,
    },
    /// It is of a trust domain that this workload doesn't accept.
    #[error("the peer {found} is not of trust domain {expected}")]
    TrustDomain {
        /// The workload's own trust domain.
        expected: TrustDomain,
        /// Who called.
        found: SpiffeId,
    },
}

/// The one SPIFFE ID of a certificate (X509-SVID section 2).
///
/// # Errors
/// When it has none, several, or something else.
pub fn spiffe_id(leaf: &CertificateDer<'_>) -> Result<SpiffeId, InvalidPeer> {
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| InvalidPeer::Malformed)?;
    let mut uris = leaf.valid_uri_names();
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.parse()?),
        (first, second) => {
            let found = first.iter().count() + second.iter().count() + uris.count();
            Err(InvalidPeer::UriCount(found))
        }
    }
}

/// What verifying a server and verifying a client have in common.
#[derive(Clone, Debug)]
pub(super) struct PeerVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        Self {
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// A chain to one of the roots, valid now and for this usage; then its identity.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<SpiffeId, Error> {
        let parsed = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let roots = &self.roots.roots;
        parsed
            .verify_for_usage(
                self.algorithms.all,
                roots,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(|error| chain_error(&error))?;
        spiffe_id(leaf).map_err(refusal)
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

/// Accepts exactly one server.
#[derive(Debug)]
pub(super) struct VerifyServer {
    peers: PeerVerifier,
    expected: SpiffeId,
}

impl VerifyServer {
    pub(super) fn new(peers: PeerVerifier, expected: SpiffeId) -> Self {
        Self { peers, expected }
    }
}

impl ServerCertVerifier for VerifyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self
            .peers
            .verify(end_entity, intermediates, now, KeyUsage::server_auth())?;
        if found != self.expected {
            return Err(refusal(InvalidPeer::Unexpected {
                expected: self.expected.clone(),
                found,
            }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SelectedUnofferedKxGroup.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.peers.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.peers.algorithms.supported_schemes()
    }
}

/// Accepts every client of one trust domain; which of them may do what is for
/// authorization to say.
#[derive(Debug)]
pub(super) struct VerifyClient {
    peers: PeerVerifier,
    trust_domain: TrustDomain,
}

impl VerifyClient {
    pub(super) fn new(peers: PeerVerifier, trust_domain: TrustDomain) -> Self {
        Self {
            peers,
            trust_domain,
        }
    }
}

impl ClientCertVerifier for VerifyClient {
    /// No hints: clients have one certificate only.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let found = self
            .peers
            .verify(end_entity, intermediates, now, KeyUsage::client_auth())?;
        if *found.trust_domain() != self.trust_domain {
            let expected = self.trust_domain.clone();
            return Err(refusal(InvalidPeer::TrustDomain { expected, found }));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SelectedUnofferedKxGroup.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.peers.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.peers.algorithms.supported_schemes()
    }
}

fn refusal(why: InvalidPeer) -> Error {
    CertificateError::Other(OtherError(Arc::new(why))).into()
}

/// The TLS library's own words for what is wrong with a chain, so that the peer gets
/// the right alert and the operator the right message.
fn chain_error(error: &webpki::Error) -> Error {
    match error {
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext {
            time: *time,
            not_after: *not_after,
        }
        .into(),
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext {
                time: *time,
                not_before: *not_before,
            }
            .into()
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        other => {
            CertificateError::Other(OtherError(Arc::new(ChainError(format!("{other:?}"))))).into()
        }
    }
}

/// A chain that doesn't verify for a reason that has no name of its own.
#[derive(Debug)]
struct ChainError(String);

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer's certificate chain is invalid: {}", self.0)
    }
}

impl std::error::Error for ChainError {}
