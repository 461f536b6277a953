//! TLS to services outside the mesh, for applications that don't speak it: TLS 1.2 or
//! 1.3, the server verified by its name.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weft_model::external::TlsOrigination;

use crate::sync::lock;
use crate::tls::provider;

/// Why no TLS could be begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginationError {
    /// Nobody to trust.
    #[error("no roots to verify the server of an external service with: {0}")]
    Roots(String),
    /// Nobody to ask for.
    #[error("`{0}` is not a name that a server can be asked for by TLS")]
    ServerName(String),
    /// The TLS library refuses the combination.
    #[error("TLS to an external service can't be set up: {0}")]
    Setup(String),
    /// The handshake failed; most often because the server is not who it should be.
    #[error("TLS with the external service `{server_name}`: {error}")]
    Handshake {
        /// Whom it was meant for.
        server_name: Arc<str>,
        /// What rustls says.
        error: io::Error,
    },
    /// The handshake took too long.
    #[error("the external service `{0}` did not finish its TLS handshake in time")]
    Timeout(Arc<str>),
}

/// What is set up once for each external service, with its sessions.
#[derive(Debug, Default)]
pub(crate) struct Originations(Mutex<Configs>);

/// By the address of what it is made from, which is kept here so that nothing else gets
/// that address.
type Configs = HashMap<usize, (Arc<TlsOrigination>, Arc<ClientConfig>)>;

impl Originations {
    /// Begins TLS on a connection to an external service. `alpn` is what will be spoken
    /// inside; nothing for whatever the application sends.
    pub(crate) async fn connect(
        &self,
        origination: &Arc<TlsOrigination>,
        server_name: &Arc<str>,
        alpn: &[&[u8]],
        tcp: TcpStream,
        limit: Duration,
    ) -> Result<TlsStream<TcpStream>, OriginationError> {
        let asked = ServerName::try_from(server_name.to_string());
        let asked = asked.map_err(|_| OriginationError::ServerName(server_name.to_string()))?;
        let mut config = self.config(origination).await?;
        if !alpn.is_empty() {
            let protocols = alpn.iter().map(|protocol| protocol.to_vec());
            Arc::make_mut(&mut config).alpn_protocols = protocols.collect();
        }
        let handshake = TlsConnector::from(config).connect(asked, tcp);
        let finished = tokio::time::timeout(limit, handshake).await;
        let late = |_| OriginationError::Timeout(Arc::clone(server_name));
        finished
            .map_err(late)?
            .map_err(|error| OriginationError::Handshake {
                server_name: Arc::clone(server_name),
                error,
            })
    }

    async fn config(
        &self,
        origination: &Arc<TlsOrigination>,
    ) -> Result<Arc<ClientConfig>, OriginationError> {
        let key = Arc::as_ptr(origination).addr();
        if let Some((_, config)) = lock(&self.0).get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(client_config(origination).await?);
        let mut configs = lock(&self.0);
        // Those that only this table still knows are of services that are gone.
        configs.retain(|_, (kept, _)| Arc::strong_count(kept) > 1);
        let made = (Arc::clone(origination), config);
        let (_, config) = configs.entry(key).or_insert(made);
        Ok(Arc::clone(config))
    }
}

async fn client_config(origination: &TlsOrigination) -> Result<ClientConfig, OriginationError> {
    let roots = match origination.roots.as_slice() {
        [] => platform_roots().await?,
        roots => given_roots(roots)?,
    };
    let setup = |error: &dyn std::fmt::Display| OriginationError::Setup(error.to_string());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let names = origination.subject_alt_names.iter().map(|name| {
        let parsed = ServerName::try_from(name.to_string());
        parsed.map_err(|_| OriginationError::ServerName(name.to_string()))
    });
    let verifier = VerifyExternal {
        by_name: verifier.build().map_err(|error| setup(&error))?,
        names: names.collect::<Result<_, _>>()?,
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

fn given_roots(given: &[Arc<[u8]>]) -> Result<RootCertStore, OriginationError> {
    let mut roots = RootCertStore::empty();
    for root in given {
        let added = roots.add(CertificateDer::from(root.to_vec()));
        added.map_err(|error| OriginationError::Roots(error.to_string()))?;
    }
    Ok(roots)
}

/// Those of the machine, or of the container's image; `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// say where else they are.
async fn platform_roots() -> Result<RootCertStore, OriginationError> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|error| OriginationError::Roots(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    // Some platforms carry certificates that no verifier takes.
    let (taken, _) = roots.add_parsable_certificates(loaded.certs);
    if taken > 0 {
        return Ok(roots);
    }
    let errors: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
    let why = match errors.is_empty() {
        true => "the platform has none; set spec.tls.caCertificates, or SSL_CERT_FILE".to_owned(),
        false => errors.join("; "),
    };
    Err(OriginationError::Roots(why))
}

/// Verifies servers by the name that was asked for, or by any of these names instead.
#[derive(Debug)]
struct VerifyExternal {
    by_name: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
}

impl ServerCertVerifier for VerifyExternal {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name: &ServerName<'_>| {
            let verifier = &self.by_name;
            verifier.verify_server_cert(leaf, intermediates, name, ocsp, now)
        };
        let Some((first, others)) = self.names.split_first() else {
            return verify(asked);
        };
        let result = verify(first);
        others
            .iter()
            .fold(result, |result, name| result.or_else(|_| verify(name)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_name
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_name
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_name.supported_verify_schemes()
    }
}
