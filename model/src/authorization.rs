//! Authorization of connections to a workload: plaintext by its mutual TLS mode, tunnels
//! by the client's identity and the address they are for. Decisions only: whoever asks
//! also enforces.

use std::net::SocketAddr;

use crate::address::canonical_ip;
use crate::identity::{SpiffeId, TrustDomain};
use crate::mtls::MtlsMode;
use crate::node_access::{NodeAccess, NotAProbe, ProbePort};
use crate::ports::is_mesh_port;
use crate::workload::Workload;

/// Proven origin of a plaintext connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlaintextOrigin {
    /// The kubelet of this node: the kernel recorded its connect. Where nobody knows which
    /// process that is, any process of the node outside of pods.
    Kubelet,
    /// Another process of this node, outside of pods: the kernel recorded its connect.
    Node,
    /// An address of this node, where the kernel records no connect: kubelet, another of its
    /// processes, or somebody whose source the node rewrites.
    NodeAddress,
    /// Anything else.
    Network,
}

/// Plaintext that an admitted connection may carry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlaintextGrant {
    /// Whatever its client wants.
    Anything,
    /// What kubelet sends as a probe.
    Probes(ProbePort),
}

impl PlaintextGrant {
    /// Whether what another grants is granted by this one, too.
    pub fn includes(&self, other: &Self) -> bool {
        *self == Self::Anything || self == other
    }
}

/// Denial of plaintext to a workload that demands mutual TLS.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlaintextDenied {
    /// From the network.
    #[error("the workload accepts mutual TLS only (mode strict) and the connection is plaintext")]
    Network,
    /// From a process of the node that isn't kubelet.
    #[error(
        "the workload accepts mutual TLS only (mode strict); of its node's processes, kubelet \
         alone may probe it (`weft.dev/node-access: all` lets in the others)"
    )]
    NotKubelet,
    /// From kubelet, but no probe.
    #[error("the workload accepts mutual TLS only (mode strict) and {0}")]
    NotAProbe(#[from] NotAProbe),
}

/// Authorizes a plaintext connection to a port of a workload.
///
/// # Errors
/// When the port is strict and doesn't take that from its node.
pub fn authorize_plaintext(
    workload: &Workload,
    origin: PlaintextOrigin,
    port: u16,
) -> Result<PlaintextGrant, PlaintextDenied> {
    match (workload.mtls_mode_at(port), origin, &workload.node_access) {
        (MtlsMode::Disabled | MtlsMode::Permissive, _, _) => Ok(PlaintextGrant::Anything),
        (MtlsMode::Strict, PlaintextOrigin::Network, _) => Err(PlaintextDenied::Network),
        (MtlsMode::Strict, _, NodeAccess::All) => Ok(PlaintextGrant::Anything),
        (MtlsMode::Strict, PlaintextOrigin::Node, NodeAccess::Probes(_)) => {
            Err(PlaintextDenied::NotKubelet)
        }
        (
            MtlsMode::Strict,
            PlaintextOrigin::Kubelet | PlaintextOrigin::NodeAddress,
            access @ NodeAccess::Probes(_),
        ) => Ok(PlaintextGrant::Probes(access.at(port)?)),
    }
}

/// The plaintext that a workload takes from its node whatever AuthorizationPolicies say of that
/// address: kubelet's probes, or all that it sends where [`NodeAccess::All`] was chosen. None of
/// them could name kubelet, which proves no identity.
pub fn node_exemption(
    workload: &Workload,
    origin: PlaintextOrigin,
    port: u16,
) -> Option<PlaintextGrant> {
    match (origin, &workload.node_access) {
        (PlaintextOrigin::Network | PlaintextOrigin::Node, _) => None,
        (PlaintextOrigin::Kubelet, NodeAccess::All) => Some(PlaintextGrant::Anything),
        // It may be anybody's.
        (PlaintextOrigin::NodeAddress, NodeAccess::All) => None,
        (
            PlaintextOrigin::Kubelet | PlaintextOrigin::NodeAddress,
            access @ NodeAccess::Probes(_),
        ) => access.at(port).ok().map(PlaintextGrant::Probes),
    }
}

/// Denial of an HBONE tunnel.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TunnelDenied {
    /// The CONNECT authority names another address than the connection was made to.
    #[error("CONNECT names {authority}, but the connection was made to {connection}")]
    NotThisWorkload {
        /// Address that the request asks for.
        authority: SocketAddr,
        /// Address that the tunnel's connection was made to.
        connection: SocketAddr,
    },
    /// The CONNECT authority names one of the proxy's own ports.
    #[error("CONNECT names port {0}, which belongs to the mesh itself")]
    ProxyPort(u16),
    /// The client's identity is of a trust domain that this workload doesn't accept.
    #[error("the client {client} is not of trust domain {expected}")]
    TrustDomain {
        /// Identity of the client.
        client: SpiffeId,
        /// Trust domain of the workload.
        expected: TrustDomain,
    },
}

/// Authorizes a tunnel to `authority`, which a client asks for on a connection that was
/// made to `connection`.
///
/// # Errors
/// When the authority isn't the workload itself, names one of the mesh's own ports, or the
/// client is of another trust domain.
///
/// ```
/// use weft_model::authorization::{TunnelDenied, authorize_tunnel};
/// use weft_model::workload::{Workload, WorkloadUid};
///
/// let identity = "spiffe://cluster.local/ns/shop/sa/web".parse()?;
/// let web = Workload {
///     addresses: vec!["10.0.1.7".parse()?],
///     ..Workload::new(WorkloadUid::from("web-1"), identity, "node-1")
/// };
/// let client = "spiffe://cluster.local/ns/shop/sa/cart".parse()?;
/// let connection = "10.0.1.7:15008".parse()?;
/// authorize_tunnel(&web, &client, "10.0.1.7:80".parse()?, connection)?;
///
/// let elsewhere = authorize_tunnel(&web, &client, "10.0.1.8:80".parse()?, connection);
/// assert!(matches!(elsewhere, Err(TunnelDenied::NotThisWorkload { .. })));
/// let stranger = "spiffe://example.org/ns/shop/sa/cart".parse()?;
/// let foreign = authorize_tunnel(&web, &stranger, "10.0.1.7:80".parse()?, connection);
/// assert!(matches!(foreign, Err(TunnelDenied::TrustDomain { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
        port if is_mesh_port(port) => Err(TunnelDenied::ProxyPort(port)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::workload;
    use crate::node_access::{Probe, ProbeKind};
    use crate::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn strict(node_access: NodeAccess) -> Workload {
        Workload {
            mtls_mode: MtlsMode::Strict,
            node_access,
            ..workload("web", "10.0.0.1", "node-1")
        }
    }

    #[test]
    fn permissive_takes_plaintext_from_everybody() {
        let web = workload("web", "10.0.0.1", "node-1");
        for origin in [
            PlaintextOrigin::Network,
            PlaintextOrigin::Node,
            PlaintextOrigin::Kubelet,
        ] {
            let grant = authorize_plaintext(&web, origin, 80);
            assert_eq!(grant, Ok(PlaintextGrant::Anything), "{origin:?}");
        }
    }

    #[test]
    fn a_port_takes_plaintext_by_its_own_mode() {
        let none = NodeAccess::Probes([].into());
        let pod = |mtls_mode, ports: &str| Workload {
            mtls_mode,
            port_modes: ports.parse().unwrap(),
            ..strict(none.clone())
        };
        let takes = |pod: &Workload, port| {
            authorize_plaintext(pod, PlaintextOrigin::Network, port) == Ok(PlaintextGrant::Anything)
        };
        let strict = pod(MtlsMode::Strict, "80=permissive,81=disabled");
        assert_eq!(
            [80, 81, 82].map(|port| takes(&strict, port)),
            [true, true, false]
        );
        let open = pod(MtlsMode::Permissive, "80=strict");
        assert_eq!([80, 81].map(|port| takes(&open, port)), [false, true]);
    }

    #[test]
    fn strict_takes_from_kubelet_what_the_pods_probes_declare() {
        let probe = Probe {
            port: 8080,
            kind: ProbeKind::Tcp,
        };
        let web = strict(NodeAccess::Probes([probe].into()));
        let of = |origin, port| authorize_plaintext(&web, origin, port);
        let granted = of(PlaintextOrigin::Kubelet, 8080);
        assert!(matches!(granted, Ok(PlaintextGrant::Probes(_))));
        let denied = PlaintextDenied::NotAProbe(NotAProbe::Port(80));
        assert_eq!(of(PlaintextOrigin::Kubelet, 80), Err(denied));
        let denied = PlaintextDenied::NotKubelet;
        assert_eq!(of(PlaintextOrigin::Node, 8080), Err(denied));
        let denied = PlaintextDenied::Network;
        assert_eq!(of(PlaintextOrigin::Network, 8080), Err(denied));
    }

    #[test]
    fn a_grant_of_anything_includes_all_others_and_no_other_includes_it() {
        let probes = |port| {
            let kind = ProbeKind::Tcp;
            let web = strict(NodeAccess::Probes([Probe { port, kind }].into()));
            authorize_plaintext(&web, PlaintextOrigin::Kubelet, port).unwrap()
        };
        assert!(PlaintextGrant::Anything.includes(&probes(80)));
        assert!(probes(80).includes(&probes(80)));
        assert!(!probes(80).includes(&probes(81)));
        assert!(!probes(80).includes(&PlaintextGrant::Anything));
    }

    #[test]
    fn strict_takes_anything_from_the_node_where_that_was_chosen_and_nothing_from_the_network() {
        let web = strict(NodeAccess::All);
        let of = |origin| authorize_plaintext(&web, origin, 80);
        assert_eq!(of(PlaintextOrigin::Node), Ok(PlaintextGrant::Anything));
        assert_eq!(of(PlaintextOrigin::Kubelet), Ok(PlaintextGrant::Anything));
        assert_eq!(of(PlaintextOrigin::Network), Err(PlaintextDenied::Network));
    }

    #[test]
    fn policies_keep_kubelet_from_no_probe_and_the_rest_of_the_node_from_everything() {
        let probe = Probe {
            port: 8080,
            kind: ProbeKind::Tcp,
        };
        for mtls_mode in [MtlsMode::Permissive, MtlsMode::Strict] {
            let web = Workload {
                mtls_mode,
                ..strict(NodeAccess::Probes([probe.clone()].into()))
            };
            let of = |origin, port| node_exemption(&web, origin, port);
            let exempt = of(PlaintextOrigin::Kubelet, 8080);
            assert!(matches!(exempt, Some(PlaintextGrant::Probes(_))));
            assert_eq!(of(PlaintextOrigin::Kubelet, 80), None);
            assert_eq!(of(PlaintextOrigin::NodeAddress, 8080), exempt);
            assert_eq!(of(PlaintextOrigin::NodeAddress, 80), None);
            assert_eq!(of(PlaintextOrigin::Node, 8080), None);
            assert_eq!(of(PlaintextOrigin::Network, 8080), None);
        }
        let web = strict(NodeAccess::All);
        let exempt = node_exemption(&web, PlaintextOrigin::Kubelet, 80);
        assert_eq!(exempt, Some(PlaintextGrant::Anything));
        assert_eq!(node_exemption(&web, PlaintextOrigin::Node, 80), None);
        assert_eq!(node_exemption(&web, PlaintextOrigin::NodeAddress, 80), None);
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
}
