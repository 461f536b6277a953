//! Who may connect, and how. Decisions only: whoever asks also enforces.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::address::canonical_ip;
use crate::identity::{SpiffeId, TrustDomain};
use crate::workload::Workload;

/// Where peers reach a workload's proxy with HBONE.
pub const HBONE_PORT: u16 = 15008;
/// Where the proxy takes an enrolled pod's outbound connections, inside that pod.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where the proxy takes plaintext that arrives for an enrolled pod, inside that pod.
pub const INBOUND_PLAINTEXT_PORT: u16 = 15006;

/// What a workload's inbound side asks of its clients.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum MtlsMode {
    /// Mutual TLS from those who can, plaintext from the rest.
    #[default]
    Permissive,
    /// Mutual TLS only. Processes of the node itself (kubelet probes) still connect.
    Strict,
}

/// A text that is no mTLS mode.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an mTLS mode; use `permissive` or `strict`")]
pub struct InvalidMtlsMode(String);

impl FromStr for MtlsMode {
    type Err = InvalidMtlsMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "permissive" => Ok(Self::Permissive),
            "strict" => Ok(Self::Strict),
            _ => Err(InvalidMtlsMode(text.to_owned())),
        }
    }
}

impl fmt::Display for MtlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permissive => "permissive",
            Self::Strict => "strict",
        })
    }
}

/// Where a plaintext connection was proven to come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlaintextOrigin {
    /// A process of this node, outside any pod: the kernel recorded its connect.
    Node,
    /// Anything else.
    Network,
}

/// Plaintext to a workload that asks for mutual TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the workload accepts mutual TLS only (mode strict) and the connection is plaintext")]
pub struct PlaintextDenied;

/// Whether a plaintext connection may reach a workload.
///
/// # Errors
/// When the workload is strict and the connection isn't the node's own.
pub fn authorize_plaintext(mode: MtlsMode, origin: PlaintextOrigin) -> Result<(), PlaintextDenied> {
    match (mode, origin) {
        (MtlsMode::Permissive, _) | (MtlsMode::Strict, PlaintextOrigin::Node) => Ok(()),
        (MtlsMode::Strict, PlaintextOrigin::Network) => Err(PlaintextDenied),
    }
}

/// Why a tunnel request is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TunnelDenied {
    /// The CONNECT authority names another address than the connection was made to.
    #[error("CONNECT names {authority}, but the connection was made to {connection}")]
    NotThisWorkload {
        /// What the request asked for.
        authority: SocketAddr,
        /// Where the tunnel's connection itself went.
        connection: SocketAddr,
    },
    /// The CONNECT authority names one of the proxy's own ports.
    #[error("CONNECT names port {0}, which belongs to the mesh itself")]
    ProxyPort(u16),
    /// The client's identity is of a trust domain that this workload doesn't accept.
    #[error("the client {client} is not of trust domain {expected}")]
    TrustDomain {
        /// Who called.
        client: SpiffeId,
        /// The workload's own trust domain.
        expected: TrustDomain,
    },
}

/// Whether a tunnel may be opened to `authority` for a client, on a connection
/// that was made to `connection`.
///
/// # Errors
/// When the authority isn't the workload itself or the client isn't trusted.
pub fn authorize_tunnel(
    workload: &Workload,
    client: &SpiffeId,
    authority: SocketAddr,
    connection: SocketAddr,
) -> Result<(), TunnelDenied> {
    if client.trust_domain() != workload.identity.trust_domain() {
        return Err(TunnelDenied::TrustDomain {
            client: client.clone(),
            expected: workload.identity.trust_domain().clone(),
        });
    }
    let same_address = canonical_ip(authority.ip()) == canonical_ip(connection.ip());
    if !same_address || !workload.has_address(authority.ip()) {
        return Err(TunnelDenied::NotThisWorkload {
            authority,
            connection,
        });
    }
    match authority.port() {
        port @ (HBONE_PORT | OUTBOUND_PORT | INBOUND_PLAINTEXT_PORT) => {
            Err(TunnelDenied::ProxyPort(port))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures::workload;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn strict_refuses_plaintext_from_the_network_but_not_from_the_node() {
        assert!(authorize_plaintext(MtlsMode::Strict, PlaintextOrigin::Network).is_err());
        assert!(authorize_plaintext(MtlsMode::Strict, PlaintextOrigin::Node).is_ok());
        assert!(authorize_plaintext(MtlsMode::Permissive, PlaintextOrigin::Network).is_ok());
    }

    #[test]
    fn a_tunnel_goes_only_to_the_workload_it_was_made_to() {
        let web = workload("web", "10.0.0.1", "node-1");
        let client = workload("client", "10.0.0.2", "node-2").identity;
        let connection = address("10.0.0.1:15008");
        let admit =
            |authority: &str| authorize_tunnel(&web, &client, address(authority), connection);
        assert!(admit("10.0.0.1:80").is_ok());
        assert!(admit("[::ffff:10.0.0.1]:80").is_ok());
        assert!(matches!(
            admit("10.0.0.9:80"),
            Err(TunnelDenied::NotThisWorkload { .. })
        ));
        assert!(matches!(
            admit("127.0.0.1:80"),
            Err(TunnelDenied::NotThisWorkload { .. })
        ));
        for port in [HBONE_PORT, OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT] {
            assert_eq!(
                admit(&format!("10.0.0.1:{port}")),
                Err(TunnelDenied::ProxyPort(port))
            );
        }
    }

    #[test]
    fn a_tunnel_from_another_trust_domain_is_refused() {
        let web = workload("web", "10.0.0.1", "node-1");
        let stranger = "spiffe://elsewhere/ns/default/sa/client".parse().unwrap();
        let refused = authorize_tunnel(
            &web,
            &stranger,
            address("10.0.0.1:80"),
            address("10.0.0.1:15008"),
        );
        assert!(matches!(refused, Err(TunnelDenied::TrustDomain { .. })));
    }

    #[test]
    fn modes_parse_or_say_what_is_allowed() {
        assert_eq!("STRICT".parse(), Ok(MtlsMode::Strict));
        let error = "mutual".parse::<MtlsMode>().unwrap_err().to_string();
        assert!(error.contains("`permissive` or `strict`"), "{error}");
    }
}
