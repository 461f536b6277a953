//! One key set, once: over TLS unless that is given up, from nobody but the address that was named,
//! bounded in time and size.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use weft_model::request_authentication::JsonWebKey;

use super::destination::is_local;
use crate::kinds::{InvalidKeys, KeySource, is_key_address, parse_keys};

/// Longest that one fetch may take.
const WITHIN: Duration = Duration::from_secs(8);
/// Longest that all addresses of a host may take together to be connected to, where there are several.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Shortest time of one of them.
const SHORTEST_CONNECT: Duration = Duration::from_millis(500);
/// Largest key set, in bytes.
const LARGEST: usize = 256 * 1024;

/// What is allowed beyond the usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetcherOptions {
    /// Keys without TLS, which anybody on the way can replace.
    pub(crate) allow_http: bool,
    /// Keys from addresses of this machine and its links.
    pub(crate) allow_local: bool,
    /// Certificates (PEM) to trust beside the system's.
    pub(crate) roots: Option<PathBuf>,
}

/// Certificates that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("--jwks-roots {}: {reason}", path.display())]
pub(crate) struct InvalidRoots {
    path: PathBuf,
    reason: String,
}

/// Why there are no keys. For whoever wrote the address: nothing of an answer is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Without TLS.
    #[error("the address is no https URL; --jwks-allow-http of the control plane allows http")]
    Insecure,
    /// No host, or none that can be asked.
    #[error("the address names no host")]
    NoHost,
    /// The name can't be resolved.
    #[error("the host can't be resolved")]
    Unresolved,
    /// Only this machine or its links have it.
    #[error(
        "the host is at a loopback, link-local or multicast address; --jwks-allow-local of the \
         control plane allows it"
    )]
    Local,
    /// Nobody takes a connection.
    #[error("the host takes no connection")]
    Connect,
    /// Its certificate is not what it should be, or it speaks no TLS.
    #[error(
        "TLS with the host fails; a private authority is trusted by --jwks-roots of the control \
         plane"
    )]
    Tls,
    /// No HTTP, or a broken one.
    #[error("the host's answer is no HTTP, or broke off")]
    Http,
    /// It says to ask somebody else.
    #[error("the host answers with a redirect ({0}), which is not followed; give where it leads")]
    Redirect(StatusCode),
    /// It has none.
    #[error("the host answers {0}")]
    Status(StatusCode),
    /// More than is read.
    #[error("the answer is larger than {LARGEST} bytes, or broke off")]
    TooLarge,
    /// What an issuer says of itself can't be used.
    #[error(
        "the issuer's openid-configuration is none: JSON with this `issuer`, letter by letter, and an \
         https URL as `jwks_uri`"
    )]
    Discovery,
    /// No keys.
    #[error(transparent)]
    Keys(#[from] InvalidKeys),
    /// Too slow.
    #[error("it took longer than {} s", WITHIN.as_secs())]
    Timeout,
}

/// Fetches key sets.
#[derive(Debug)]
pub(crate) struct Fetcher {
    options: FetcherOptions,
    tls: Arc<ClientConfig>,
}

impl Fetcher {
    /// One that trusts the system's certificates and those of the options.
    ///
    /// # Errors
    /// When those can't be used.
    pub(crate) fn new(options: FetcherOptions) -> Result<Self, InvalidRoots> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() && options.roots.is_none() {
            tracing::warn!(
                "this system has no certificate authorities: no issuer's key set can be fetched by https without --jwks-roots"
            );
        }
        if let Some(path) = &options.roots {
            let invalid = |reason: String| InvalidRoots {
                path: path.clone(),
                reason,
            };
            let certificates = CertificateDer::pem_file_iter(path);
            for certificate in certificates.map_err(|error| invalid(error.to_string()))? {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                let added = roots.add(certificate);
                added.map_err(|error| invalid(error.to_string()))?;
            }
        }
        Ok(Self::trusting(roots, options))
    }

    pub(super) fn trusting(roots: RootCertStore, options: FetcherOptions) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        #[allow(clippy::expect_used, reason = "aws-lc-rs has suites of both versions")]
        let config = config
            .with_protocol_versions(&versions)
            .expect("suites of both versions");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Self {
            options,
            tls: Arc::new(config),
        }
    }

    /// The keys of a source.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn fetch(&self, source: &KeySource) -> Result<Vec<JsonWebKey>, FetchError> {
        let fetched = timeout(WITHIN, self.get_keys(source)).await;
        let body = fetched.map_err(|_| FetchError::Timeout)??;
        let text = std::str::from_utf8(&body).map_err(|_| InvalidKeys::NoKeySet)?;
        Ok(parse_keys(text)?)
    }

    async fn get_keys(&self, source: &KeySource) -> Result<Bytes, FetchError> {
        let first = self.get(&source.url()).await?;
        match source {
            KeySource::Address(_) => Ok(first),
            // Who may be asked doesn't depend on who says so.
            KeySource::Issuer(issuer) => self.get(&jwks_uri(&first, issuer)?).await,
        }
    }

    async fn get(&self, address: &str) -> Result<Bytes, FetchError> {
        let uri: Uri = address.parse().map_err(|_| FetchError::NoHost)?;
        let (is_secure, default_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") if self.options.allow_http => (false, 80),
            _ => return Err(FetchError::Insecure),
        };
        let host = uri.host().ok_or(FetchError::NoHost)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(default_port);
        let stream = self.connect(host, port).await?;
        if !is_secure {
            return ask(stream, &uri).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::NoHost)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, stream).await;
        ask(stream.map_err(|_| FetchError::Tls)?, &uri).await
    }

    /// Connects to what the name is at, looked up once: what was looked at is what is connected to.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                let found = lookup_host((host, port)).await;
                found.map_err(|_| FetchError::Unresolved)?.collect()
            }
        };
        let is_allowed = |address: &SocketAddr| self.options.allow_local || !is_local(address.ip());
        let had_some = !found.is_empty();
        let allowed: Vec<_> = found.into_iter().filter(is_allowed).collect();
        if allowed.is_empty() {
            return Err(match had_some {
                true => FetchError::Local,
                false => FetchError::Unresolved,
            });
        }
        connect_to_one(&allowed).await
    }
}

/// Connects to the first of some addresses that answers. One that doesn't, such as of IPv6 where no
/// route leads there, leaves time for the others.
async fn connect_to_one(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let [before @ .., last] = addresses else {
        return Err(FetchError::Connect);
    };
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let share = (CONNECT_WITHIN / count).max(SHORTEST_CONNECT);
    for address in before {
        if let Ok(Ok(stream)) = timeout(share, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    let connected = TcpStream::connect(last).await;
    connected.map_err(|_| FetchError::Connect)
}

/// The address of keys in what an issuer says of itself (OpenID Connect Discovery 1.0, section 4.3).
fn jwks_uri(document: &[u8], issuer: &str) -> Result<String, FetchError> {
    let document: Value = serde_json::from_slice(document).map_err(|_| FetchError::Discovery)?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let is_own = text("issuer") == Some(issuer);
    let address = text("jwks_uri").filter(|address| is_own && is_key_address(address));
    address.map(str::to_owned).ok_or(FetchError::Discovery)
}

/// Asks for what is at a URI, over a connection to its host.
async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    uri: &Uri,
) -> Result<Bytes, FetchError> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| FetchError::Http)?;
    let authority = uri.authority().map(|authority| authority.as_str());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, authority.unwrap_or_default())
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|_| FetchError::Http)?;
    let answered = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|_| FetchError::Http)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect(status)),
            status => return Err(FetchError::Status(status)),
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        Ok(body.map_err(|_| FetchError::TooLarge)?.to_bytes())
    };
    // The connection is driven here, and ends with the answer.
    tokio::pin!(answered);
    let connection = async { connection.await.ok() };
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        _ = connection => answered.await,
    }
}
