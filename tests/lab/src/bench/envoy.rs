//! The peer: Envoy proxies in pairs, TCP or HTTP over mutual TLS between them, as a
//! sidecar mesh sets them up.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::{Value, json};

/// One hop: where a proxy of the pair listens and where it sends.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    /// Where it accepts.
    pub(crate) listen: SocketAddr,
    /// Where it connects to, with weights; TCP has one.
    pub(crate) upstreams: Vec<(SocketAddr, u32)>,
    /// What it looks at.
    pub(crate) protocol: Protocol,
}

/// What a hop carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// Bytes.
    Tcp,
    /// Requests, which it routes.
    Http1,
    /// The same over HTTP/2.
    Http2,
}

/// Which half of the pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// Plaintext in, mutual TLS out.
    Client,
    /// Mutual TLS in, plaintext out.
    Server,
}

/// Files that hold one side's key, certificate and the root it trusts.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    key: PathBuf,
    certificate: PathBuf,
    root: PathBuf,
}

/// Why there is no peer to compare with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// No credentials could be made.
    #[error("certificates for the Envoy pair could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("{path} could not be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Makes a root and a certificate for either side, ECDSA P-256 like the mesh's own.
pub(crate) fn credentials(directory: &Path) -> Result<[Credentials; 2], PeerError> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A leaf with the same name would count as self-signed.
    authority
        .distinguished_name
        .push(DnType::CommonName, "benchmark root");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let root = write(&directory.join("root.pem"), &authority.pem())?;
    let make = |name: &str| -> Result<Credentials, PeerError> {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::default();
        let id = format!("spiffe://cluster.local/ns/bench/sa/{name}");
        leaf.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        let certificate = leaf.signed_by(&key, &authority)?;
        Ok(Credentials {
            key: write(
                &directory.join(format!("{name}-key.pem")),
                &key.serialize_pem(),
            )?,
            certificate: write(&directory.join(format!("{name}.pem")), &certificate.pem())?,
            root: root.clone(),
        })
    };
    Ok([make("client")?, make("server")?])
}

/// The configuration of one half of the pair.
pub(crate) fn configuration(side: Side, hops: &[Hop], credentials: &Credentials) -> Value {
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for (index, hop) in hops.iter().enumerate() {
        let name = format!("hop{index}");
        listeners.push(listener(side, &name, hop, credentials));
        for (upstream, (address, _)) in hop.upstreams.iter().enumerate() {
            let name = cluster_name(&name, upstream);
            clusters.push(cluster(side, &name, *address, hop.protocol, credentials));
        }
    }
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn cluster_name(hop: &str, upstream: usize) -> String {
    format!("{hop}-{upstream}")
}

fn listener(side: Side, name: &str, hop: &Hop, credentials: &Credentials) -> Value {
    let filter = match hop.protocol {
        Protocol::Tcp => tcp_proxy(name),
        Protocol::Http1 | Protocol::Http2 => connection_manager(name, &hop.upstreams),
    };
    let mut chain = json!({ "filters": [filter] });
    if side == Side::Server {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": tls_context(credentials),
            },
        });
    }
    json!({ "name": name, "address": socket_address(hop.listen), "filter_chains": [chain] })
}

fn tcp_proxy(name: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": cluster_name(name, 0),
        },
    })
}

/// Every request to one of the upstreams by its weight.
fn connection_manager(name: &str, upstreams: &[(SocketAddr, u32)]) -> Value {
    let weighted = upstreams
        .iter()
        .enumerate()
        .map(|(index, (_, weight))| json!({ "name": cluster_name(name, index), "weight": weight }));
    let route = json!({
        "match": { "prefix": "/" },
        "route": { "weighted_clusters": { "clusters": weighted.collect::<Vec<_>>() } },
    });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    });
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": {
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }],
            },
            "http_filters": [router],
        },
    })
}

fn cluster(
    side: Side,
    name: &str,
    address: SocketAddr,
    protocol: Protocol,
    credentials: &Credentials,
) -> Value {
    let endpoint = json!({ "endpoint": { "address": socket_address(address) } });
    let limit = 100_000;
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
        // The defaults of 1,024 would measure the limit, not the proxy.
        "circuit_breakers": { "thresholds": [{
            "max_connections": limit,
            "max_pending_requests": limit,
            "max_requests": limit,
        }] },
    });
    if protocol == Protocol::Http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    if side == Side::Client {
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": tls_context(credentials),
            },
        });
    }
    cluster
}

fn tls_context(credentials: &Credentials) -> Value {
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": { "filename": credentials.certificate },
            "private_key": { "filename": credentials.key },
        }],
        "validation_context": {
            "trusted_ca": { "filename": credentials.root },
            "match_typed_subject_alt_names": [{
                "san_type": "URI",
                "matcher": { "prefix": "spiffe://cluster.local/" },
            }],
        },
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn write(path: &Path, content: &str) -> Result<PathBuf, PeerError> {
    let failed = |source| PeerError::Write {
        path: path.to_path_buf(),
        source,
    };
    fs::write(path, content).map_err(failed)?;
    Ok(path.to_path_buf())
}
