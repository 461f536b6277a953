//! What both ends of a tunnel use.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use weft_model::SpiffeId;

use super::verify::{InvalidPeer, PeerVerifier, VerifyClient, VerifyServer, spiffe_id};
use crate::identity::Certificate;

/// The protocol spoken inside (hbone: ALPN `h2` on both ends).
const ALPN: &[u8] = b"h2";

/// What the client end of a tunnel uses: this certificate, and exactly that peer.
///
/// # Errors
/// When the TLS library refuses the combination; never for certificates that it
/// has accepted before.
pub fn client_config(
    certificate: &Certificate,
    expected: &SpiffeId,
) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let peers = PeerVerifier::new(Arc::clone(&certificate.roots), &provider);
    let verifier = Arc::new(VerifyServer::new(peers, expected.clone()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(single(certificate));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the check of a peer's renewed certificate.
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// What the server end of a tunnel uses: this certificate, and clients of its own
/// trust domain.
///
/// # Errors
/// Like [`client_config`].
pub fn server_config(certificate: &Certificate) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let peers = PeerVerifier::new(Arc::clone(&certificate.roots), &provider);
    let trust_domain = certificate.identity.trust_domain().clone();
    let verifier = Arc::new(VerifyClient::new(peers, trust_domain));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(single(certificate));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The identity that the peer of a finished handshake proved.
///
/// # Errors
/// When it has none; the verifiers let no such peer through.
pub fn peer_identity(chain: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId, InvalidPeer> {
    let leaf = chain
        .and_then(<[_]>::first)
        .ok_or(InvalidPeer::NoCertificate)?;
    spiffe_id(leaf)
}

fn single(certificate: &Certificate) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(CertifiedKey::clone(
        &certificate.key,
    )))
}

/// aws-lc-rs, with X25519MLKEM768 first (feature `prefer-post-quantum`) and
/// AES-256-GCM as the first cipher, the field's order.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
