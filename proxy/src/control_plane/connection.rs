//! The connection to the control plane that discovery, certificates and rate limits share.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// How long establishing a connection may take, TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how much silence the control plane is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to answer that before the connection counts as dead.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the control plane is and how both sides prove who they are.
#[derive(Clone, Debug)]
pub struct ControlPlaneOptions {
    /// Such as `https://10.0.0.1:15010`.
    pub address: String,
    /// The name that the control plane's certificate must have.
    pub server_name: String,
    /// PEM file with the roots that its certificate is verified against.
    /// Read again at each connect, so that a rotated root needs no restart.
    pub root_certificates: PathBuf,
    /// File with the token that proves which node this is. Read again for each
    /// stream and certificate request.
    pub token_file: PathBuf,
}

/// Why there is no way to talk to the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The address can't be used.
    #[error("`{0}` is not the address of a control plane; use https://HOST:PORT")]
    Address(String),
    /// The server name can't be used.
    #[error("`{0}` is not a server name; use a DNS name or an address")]
    ServerName(String),
    /// The root certificates can't be read.
    #[error("root certificates {}: {reason}", path.display())]
    RootCertificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The token can't be read.
    #[error("token file {}: {reason}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TCP connection failed.
    #[error("can't connect to {address}: {error}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS handshake with {address} as `{server_name}`: {error}{}", advice(.error))]
    Handshake {
        /// Host and port.
        address: String,
        /// The name that its certificate should have.
        server_name: String,
        /// What rustls said.
        error: io::Error,
    },
    /// TLS can't be set up at all.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The operator's next step, where a handshake failed by the certificate of the control plane.
fn advice(error: &io::Error) -> &'static str {
    use rustls::CertificateError as Invalid;
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let Some(rustls::Error::InvalidCertificate(cause)) = cause else {
        return "";
    };
    match cause {
        Invalid::UnknownIssuer | Invalid::BadSignature => {
            "; no root in --root-certificates has signed its certificate: that file has to be the \
             ca/root.pem, or the ConfigMap of roots, of this control plane"
        }
        Invalid::NotValidForName | Invalid::NotValidForNameContext { .. } => {
            "; --control-plane-name here and --server-name there have to be the same"
        }
        Invalid::Expired
        | Invalid::ExpiredContext { .. }
        | Invalid::NotValidYet
        | Invalid::NotValidYetContext { .. } => "; compare the clocks of this node and of that one",
        _ => "",
    }
}

/// The control plane as one shared HTTP/2 connection, made when first needed and
/// again after it broke. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    options: Arc<ControlPlaneOptions>,
    channel: Channel,
}

impl ControlPlane {
    /// Prepares the connection without opening it. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When address or server name can't be used.
    pub fn new(options: ControlPlaneOptions) -> Result<Self, ControlPlaneError> {
        let connector = Connector::new(&options)?;
        // tonic's own TLS can't be limited to TLS 1.3, so its endpoint speaks
        // "http" over a connector that does TLS; requests still say "https".
        let invalid = |_| ControlPlaneError::Address(options.address.clone());
        let origin: Uri = format!("https://{}", options.server_name)
            .parse()
            .map_err(|_| ControlPlaneError::ServerName(options.server_name.clone()))?;
        let channel = Endpoint::from_shared(format!("http://{}", connector.address))
            .map_err(invalid)?
            .origin(origin)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        Ok(Self {
            options: Arc::new(options),
            channel,
        })
    }

    /// The channel for a generated client.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request that carries the node's token.
    ///
    /// # Errors
    /// When the token file can't be read or holds no token.
    pub async fn request<T>(&self, message: T) -> Result<tonic::Request<T>, ControlPlaneError> {
        let mut request = tonic::Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.authorization().await?);
        Ok(request)
    }

    pub(crate) async fn authorization(&self) -> Result<MetadataValue<Ascii>, ControlPlaneError> {
        let path = &self.options.token_file;
        let invalid = |reason: String| ControlPlaneError::Token {
            path: path.clone(),
            reason,
        };
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|e| invalid(e.to_string()))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(invalid(
                "is empty; write the output of `weft-control-plane token`".into(),
            ));
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| invalid("holds characters that no token has".into()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Opens TLS 1.3 connections to the one control plane.
#[derive(Clone, Debug)]
struct Connector {
    address: String,
    server_name: ServerName<'static>,
    root_certificates: PathBuf,
}

impl Connector {
    fn new(options: &ControlPlaneOptions) -> Result<Self, ControlPlaneError> {
        let invalid = || ControlPlaneError::Address(options.address.clone());
        let uri: Uri = options.address.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        let plain = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("https") || !plain {
            return Err(invalid());
        }
        let port = authority.port_u16().unwrap_or(443);
        let server_name = ServerName::try_from(options.server_name.clone())
            .map_err(|_| ControlPlaneError::ServerName(options.server_name.clone()))?;
        Ok(Self {
            address: format!("{}:{port}", authority.host()),
            server_name,
            root_certificates: options.root_certificates.clone(),
        })
    }

    async fn connect(self) -> Result<TokioIo<TlsStream<TcpStream>>, ControlPlaneError> {
        let tls = self.tls_config().await?;
        let stream = TcpStream::connect(&self.address).await.map_err(|error| {
            ControlPlaneError::Connect {
                address: self.address.clone(),
                error,
            }
        })?;
        // Best effort: it only saves latency.
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(self.server_name.clone(), stream)
            .await
            .map_err(|error| ControlPlaneError::Handshake {
                address: self.address,
                server_name: self.server_name.to_str().into_owned(),
                error,
            })?;
        Ok(TokioIo::new(stream))
    }

    async fn tls_config(&self) -> Result<ClientConfig, ControlPlaneError> {
        let path = &self.root_certificates;
        let invalid = |reason: String| ControlPlaneError::RootCertificates {
            path: path.clone(),
            reason,
        };
        let pem = tokio::fs::read(path)
            .await
            .map_err(|error| invalid(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| invalid(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(invalid("holds no PEM certificate".into()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(tls)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ControlPlaneError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// An error and all its causes on one line, as an operator wants to read it.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let reason = next.to_string();
        if !text.contains(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(address: &str) -> ControlPlaneOptions {
        ControlPlaneOptions {
            address: address.into(),
            server_name: "weft-control-plane".into(),
            root_certificates: "/nonexistent/root.pem".into(),
            token_file: "/nonexistent/token".into(),
        }
    }

    #[test]
    fn addresses_that_are_not_https_hosts_are_refused_by_name() {
        for address in [
            "http://10.0.0.1:15010",
            "10.0.0.1:15010",
            "",
            "https://a@b",
            "https://a/b",
        ] {
            let error = Connector::new(&options(address)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{address}`")), "{error}");
        }
        let ipv6 = Connector::new(&options("https://[fd00::1]:15010")).unwrap();
        assert_eq!(ipv6.address, "[fd00::1]:15010");
    }

    #[tokio::test]
    async fn an_unreadable_root_or_token_is_named() {
        let control_plane = ControlPlane::new(options("https://127.0.0.1:1")).unwrap();
        let error = control_plane.request(()).await.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/token"), "{error}");
        let error = Connector::new(&options("https://127.0.0.1:1"))
            .unwrap()
            .connect()
            .await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/root.pem")
        );
    }
}
