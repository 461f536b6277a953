//! Whether a connection may reach the pod. The decisions are the model's; authorization is a
//! subscription: it is asked for again whenever the mesh changes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_model::authorization::{
    PlaintextGrant, PlaintextOrigin, authorize_plaintext, authorize_tunnel, node_exemption,
};
use weft_model::network_policy::{ConnectionPeer, NetworkPolicyDenied};
use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{Mesh, SpiffeId};

use super::error::InboundError;
use crate::telemetry::AuthorizationNote;

/// What a connection has to show for itself.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// The identity that its client proved by mutual TLS.
    MutualTls {
        /// The client's identity.
        identity: SpiffeId,
        /// Where the tunnel's own connection was made to.
        connection: SocketAddr,
    },
    /// The identity of a pod of this node, for which this process vouches.
    SameNode {
        /// That pod's identity.
        identity: SpiffeId,
        /// That pod.
        workload: WorkloadUid,
    },
    /// Nothing but where it comes from.
    Plaintext {
        /// What the kernel has recorded of it.
        origin: PlaintextOrigin,
    },
}

/// What a connection may carry that may reach the pod.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// By its mutual TLS mode.
    pub(super) plaintext: PlaintextGrant,
    /// It carries requests alone, and each is looked at.
    pub(super) sees_requests: bool,
    /// What AuthorizationPolicies said of it.
    pub(super) note: AuthorizationNote,
}

impl Grant {
    /// One about which policies said nothing.
    pub(super) fn new(plaintext: PlaintextGrant, sees_requests: bool) -> Self {
        Self {
            plaintext,
            sees_requests,
            note: AuthorizationNote::default(),
        }
    }
}

impl Credentials {
    /// The identity that is proven.
    pub(super) fn identity(&self) -> Option<&SpiffeId> {
        match self {
            Self::MutualTls { identity, .. } | Self::SameNode { identity, .. } => Some(identity),
            Self::Plaintext { .. } => None,
        }
    }

    /// Whether a connection to that address of a workload is allowed, and what it may carry.
    ///
    /// # Errors
    /// Why it isn't.
    pub(super) fn authorize(
        &self,
        workload: &Workload,
        destination: SocketAddr,
    ) -> Result<PlaintextGrant, InboundError> {
        match self {
            Self::MutualTls {
                identity,
                connection,
            } => authorize_tunnel(workload, identity, destination, *connection)?,
            Self::SameNode { identity, .. } => {
                authorize_tunnel(workload, identity, destination, destination)?;
            }
            Self::Plaintext { origin } => {
                let port = destination.port();
                return Ok(authorize_plaintext(workload, *origin, port)?);
            }
        }
        Ok(PlaintextGrant::Anything)
    }

    /// Whether NetworkPolicies admit a connection from `client` to a port of a workload.
    /// Plaintext travels as it would without the mesh, so they have been enforced on its
    /// packets.
    ///
    /// # Errors
    /// When they don't.
    pub(super) fn authorize_by_network_policy(
        &self,
        mesh: &Mesh,
        workload: &Workload,
        client: IpAddr,
        port: u16,
    ) -> Result<(), NetworkPolicyDenied> {
        if matches!(self, Self::Plaintext { .. }) {
            return Ok(());
        }
        let peer = ConnectionPeer {
            address: client,
            workload: self.source(mesh, client).map(|source| &**source),
        };
        let policies = mesh.network_policies();
        policies.authorize_ingress(workload, peer, port)
    }

    /// What it may carry to a port of a workload whatever AuthorizationPolicies say.
    pub(super) fn exemption(&self, workload: &Workload, port: u16) -> Option<PlaintextGrant> {
        match self {
            Self::Plaintext { origin } => node_exemption(workload, *origin, port),
            Self::MutualTls { .. } | Self::SameNode { .. } => None,
        }
    }

    /// Whether it is for certain the pod's own node that connects, such as kubelet for a probe.
    pub(super) fn is_of_node(&self) -> bool {
        let is_nodes = |origin: &PlaintextOrigin| {
            matches!(origin, PlaintextOrigin::Kubelet | PlaintextOrigin::Node)
        };
        matches!(self, Self::Plaintext { origin } if is_nodes(origin))
    }

    /// The pod that a client at that address is. An address alone proves nothing: it may have
    /// passed to another pod.
    pub(super) fn source<'a>(&self, mesh: &'a Mesh, client: IpAddr) -> Option<&'a Arc<Workload>> {
        match self {
            Self::MutualTls { identity, .. } => {
                let source = mesh.workload_by_address(client);
                source.filter(|source| source.identity == *identity)
            }
            Self::SameNode { workload, .. } => mesh.workload(workload),
            Self::Plaintext { .. } => mesh.workload_by_address(client),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::NamespacedName;
    use weft_model::mesh::Change;
    use weft_model::network_policy::{NetworkPolicy, PolicyPeer, PolicyRule};
    use weft_model::workload::PolicyMembership;

    use super::*;

    const CLIENT: &str = "10.0.0.2";

    fn identity(name: &str) -> SpiffeId {
        let identity = format!("spiffe://cluster.local/ns/shop/sa/{name}");
        identity.parse().unwrap()
    }

    fn workload(name: &str, address: &str, network_policies: PolicyMembership) -> Workload {
        Workload {
            addresses: vec![address.parse().unwrap()],
            network_policies: Arc::new(network_policies),
            ..Workload::new(WorkloadUid::from(name), identity(name), "node-1")
        }
    }

    /// A mesh where a policy lets the client reach the server, and nobody else.
    fn mesh() -> (Mesh, Workload) {
        let key = NamespacedName::new("shop", "server");
        let server = workload(
            "server",
            "10.0.0.1",
            PolicyMembership {
                ingress: vec![key.clone()],
                ..PolicyMembership::default()
            },
        );
        let client = PolicyMembership {
            selectors: vec!["app=client".into()],
            ..PolicyMembership::default()
        };
        let mut mesh = Mesh::default();
        mesh.apply(Change::Workload(workload("client", CLIENT, client)));
        mesh.apply(Change::NetworkPolicy(NetworkPolicy {
            key,
            ingress: vec![PolicyRule {
                peers: vec![PolicyPeer::Pods("app=client".into())],
                ports: Vec::new(),
            }],
            egress: Vec::new(),
        }));
        (mesh, server)
    }

    fn is_admitted(credentials: &Credentials, client: &str) -> bool {
        let (mesh, server) = mesh();
        let client = client.parse().unwrap();
        let result = credentials.authorize_by_network_policy(&mesh, &server, client, 80);
        result.is_ok()
    }

    #[test]
    fn a_tunnels_client_is_the_pod_at_its_address_with_that_pods_identity() {
        let of = |name: &str| Credentials::MutualTls {
            identity: identity(name),
            connection: "10.0.0.1:15008".parse().unwrap(),
        };
        assert!(is_admitted(&of("client"), CLIENT));
        assert!(!is_admitted(&of("another"), CLIENT));
        assert!(!is_admitted(&of("client"), "10.0.0.3"));
    }

    #[test]
    fn a_neighbour_is_the_pod_that_this_process_vouches_for() {
        let of = |name: &str| Credentials::SameNode {
            identity: identity(name),
            workload: WorkloadUid::from(name),
        };
        // Also before its address is known.
        assert!(is_admitted(&of("client"), "10.0.0.3"));
        assert!(!is_admitted(&of("another"), CLIENT));
    }

    #[test]
    fn plaintext_is_left_to_the_cni() {
        let origin = PlaintextOrigin::Network;
        assert!(is_admitted(&Credentials::Plaintext { origin }, "192.0.2.1"));
    }
}
