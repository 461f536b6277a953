//! The control plane's own certificate: issued by the mesh's root, renewed while the
//! process runs.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;

use crate::ca::Authority;

/// A reason for the control plane to have no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerCertificateError {
    /// It could not be issued; a server name may be wrong.
    #[error("the control plane's own certificate: {0}; check --server-name")]
    Issue(#[from] rcgen::Error),
    /// The TLS library doesn't take it.
    #[error("the control plane's own certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The live certificate.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    current: ArcSwap<CertifiedKey>,
    names: Vec<String>,
    authority: Arc<Authority>,
}

impl ServerCertificate {
    pub(crate) fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
    ) -> Result<Arc<Self>, ServerCertificateError> {
        let current = ArcSwap::from_pointee(issue(&authority, &names)?);
        Ok(Arc::new(Self {
            current,
            names,
            authority,
        }))
    }

    /// TLS 1.3, for HTTP/2, with whatever certificate is live when a client connects.
    pub(crate) fn config(self: &Arc<Self>) -> Result<ServerConfig, ServerCertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// Renews after every third of a lifetime, so that two tries may fail, and whenever
    /// the authority signs with something else.
    pub(crate) async fn keep_renewed(&self, lifetime: Duration) {
        let mut material = self.authority.material();
        loop {
            // The authority lives as long as this.
            let _ = tokio::time::timeout(lifetime / 3, material.changed()).await;
            match issue(&self.authority, &self.names) {
                Ok(certificate) => {
                    self.current.store(Arc::new(certificate));
                    tracing::info!("renewed the control plane's own certificate");
                }
                Err(error) => tracing::error!(%error, "renewal failed; trying again"),
            }
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn issue(authority: &Authority, names: &[String]) -> Result<CertifiedKey, ServerCertificateError> {
    let (chain, key) = authority.server_certificate(names)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = aws_lc_rs::sign::any_ecdsa_type(&key)?;
    Ok(CertifiedKey::new(chain, key))
}
