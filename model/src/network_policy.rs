//! NetworkPolicies (`networking.k8s.io/v1`): which connections to and from a pod they admit.
//! The control plane has evaluated all selectors: a workload says which policies select it, and
//! which selectors of peers match it. Decisions only: whoever asks also enforces.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::AddressBlock;
use crate::name::NamespacedName;
use crate::workload::Workload;

/// The rules of one NetworkPolicy. They add up: what one of them admits is admitted, and what
/// none does is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkPolicy {
    /// Its namespace and name.
    pub key: NamespacedName,
    /// Rules for connections to the pods that it selects.
    pub ingress: Vec<PolicyRule>,
    /// Rules for connections from the pods that it selects.
    pub egress: Vec<PolicyRule>,
}

/// One rule: it admits these peers on these ports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyRule {
    /// The other ends that it admits; every one when empty.
    pub peers: Vec<PolicyPeer>,
    /// Ports of the connection's destination; all when empty.
    pub ports: Vec<PolicyPort>,
}

/// Other ends of connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PolicyPeer {
    /// Addresses of a block, without those of some blocks in it.
    Block {
        /// The block.
        block: AddressBlock,
        /// The blocks that are left out.
        except: Vec<AddressBlock>,
    },
    /// The pods that have this among their [selectors](crate::workload::PolicyMembership::selectors).
    Pods(Arc<str>),
}

/// Ports of a destination, by TCP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PolicyPort {
    /// From the first to the last, both included.
    Range(u16, u16),
    /// The port that the destination's pod calls so.
    Name(Arc<str>),
}

/// The other end of a connection, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionPeer<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The pod that it is, where the mesh knows it.
    pub workload: Option<&'a Workload>,
}

/// The direction of a connection, as the pod sees it that policies select.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyDirection {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// Denial of a connection by NetworkPolicies.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetworkPolicyDenied {
    /// None of the policies admits it.
    #[error(
        "no {direction} rule of {pod}'s NetworkPolicies ({policies}) admits {peer} on port {port}"
    )]
    NotAdmitted {
        /// The direction.
        direction: PolicyDirection,
        /// Namespace and name of the pod that they select.
        pod: NamespacedName,
        /// Their names, separated by commas.
        policies: String,
        /// The address of the other end.
        peer: IpAddr,
        /// The port of the destination.
        port: u16,
    },
    /// The rules of one of the policies aren't known, and no other admits it.
    #[error(
        "NetworkPolicy {0} selects the pod, and its rules have not arrived: until then it admits nothing"
    )]
    NotArrived(NamespacedName),
}

impl NetworkPolicyDenied {
    /// Whether a connection that was admitted before has to end: not while rules are on their
    /// way.
    pub fn ends_connections(&self) -> bool {
        matches!(self, Self::NotAdmitted { .. })
    }
}

/// The NetworkPolicies of the mesh.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicies {
    by_name: HashMap<NamespacedName, Arc<NetworkPolicy>>,
    revision: PolicyRevision,
}

/// All NetworkPolicies of the mesh at one moment: as long as theirs is the same, so are they.
#[derive(Clone, Debug, Default)]
pub struct PolicyRevision(Arc<Revision>);

/// Not of no size: each has its own address.
#[derive(Debug, Default)]
struct Revision(#[expect(dead_code, reason = "it is told apart by its address")] u8);

impl PartialEq for PolicyRevision {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PolicyRevision {}

impl NetworkPolicies {
    /// Adds a policy, or replaces the one of its name.
    pub(crate) fn insert(&mut self, policy: NetworkPolicy) {
        let known = self.by_name.get(&policy.key);
        if known.is_none_or(|known| **known != policy) {
            self.by_name.insert(policy.key.clone(), Arc::new(policy));
            self.revision = PolicyRevision::default();
        }
    }

    /// Removes a policy.
    pub(crate) fn remove(&mut self, key: &NamespacedName) {
        if self.by_name.remove(key).is_some() {
            self.revision = PolicyRevision::default();
        }
    }

    /// What tells them apart from those of another moment.
    pub fn revision(&self) -> &PolicyRevision {
        &self.revision
    }

    /// The policy of that name.
    pub fn get(&self, key: &NamespacedName) -> Option<&Arc<NetworkPolicy>> {
        self.by_name.get(key)
    }

    /// Authorizes a connection from `client` to a port of a pod.
    ///
    /// # Errors
    /// When policies select the pod, and none of them admits it.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use weft_model::network_policy::{
    ///     ConnectionPeer, NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule,
    /// };
    /// use weft_model::mesh::Change;
    /// use weft_model::workload::{PolicyMembership, Workload, WorkloadUid};
    /// use weft_model::{Mesh, NamespacedName};
    ///
    /// let identity = "spiffe://cluster.local/ns/shop/sa/web".parse()?;
    /// let mut web = Workload::new(WorkloadUid::from("web-1"), identity, "node-1");
    /// web.network_policies = Arc::new(PolicyMembership {
    ///     ingress: vec![NamespacedName::new("shop", "web")],
    ///     ..PolicyMembership::default()
    /// });
    /// let mut mesh = Mesh::default();
    /// mesh.apply(Change::NetworkPolicy(NetworkPolicy {
    ///     key: NamespacedName::new("shop", "web"),
    ///     ingress: vec![PolicyRule {
    ///         peers: vec![PolicyPeer::Block { block: "10.0.0.0/8".parse()?, except: vec![] }],
    ///         ports: vec![PolicyPort::Range(8080, 8080)],
    ///     }],
    ///     egress: vec![],
    /// }));
    /// let client = ConnectionPeer { address: "10.0.0.7".parse()?, workload: None };
    /// assert!(mesh.network_policies().authorize_ingress(&web, client, 8080).is_ok());
    /// assert!(mesh.network_policies().authorize_ingress(&web, client, 9090).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn authorize_ingress(
        &self,
        server: &Workload,
        client: ConnectionPeer<'_>,
        port: u16,
    ) -> Result<(), NetworkPolicyDenied> {
        let direction = PolicyDirection::Ingress;
        self.authorize(
            direction,
            server,
            client,
            DestinationPort::of(Some(server), port),
        )
    }

    /// Authorizes a connection from a pod to a port of `server`.
    ///
    /// # Errors
    /// When policies select the pod, and none of them admits it.
    pub fn authorize_egress(
        &self,
        client: &Workload,
        server: ConnectionPeer<'_>,
        port: u16,
    ) -> Result<(), NetworkPolicyDenied> {
        let direction = PolicyDirection::Egress;
        let port = DestinationPort::of(server.workload, port);
        self.authorize(direction, client, server, port)
    }

    fn authorize(
        &self,
        direction: PolicyDirection,
        pod: &Workload,
        peer: ConnectionPeer<'_>,
        port: DestinationPort<'_>,
    ) -> Result<(), NetworkPolicyDenied> {
        let names = match direction {
            PolicyDirection::Ingress => &pod.network_policies.ingress,
            PolicyDirection::Egress => &pod.network_policies.egress,
        };
        // A pod can't be kept from itself.
        let is_itself = peer.workload.is_some_and(|peer| peer.uid == pod.uid);
        if names.is_empty() || is_itself {
            return Ok(());
        }
        let mut missing = None;
        for name in names {
            match self.by_name.get(name) {
                None => missing = Some(name.clone()),
                Some(policy) => {
                    let mut rules = policy.rules(direction).iter();
                    if rules.any(|rule| rule.admits(peer, port)) {
                        return Ok(());
                    }
                }
            }
        }
        Err(match missing {
            Some(missing) => NetworkPolicyDenied::NotArrived(missing),
            None => NetworkPolicyDenied::NotAdmitted {
                direction,
                pod: NamespacedName::new(pod.namespace(), &pod.name),
                policies: list(names),
                peer: peer.address,
                port: port.number,
            },
        })
    }
}

fn list(policies: &[NamespacedName]) -> String {
    let names: Vec<_> = policies.iter().map(|policy| &*policy.name).collect();
    names.join(", ")
}

impl NetworkPolicy {
    fn rules(&self, direction: PolicyDirection) -> &[PolicyRule] {
        match direction {
            PolicyDirection::Ingress => &self.ingress,
            PolicyDirection::Egress => &self.egress,
        }
    }
}

impl PolicyRule {
    fn admits(&self, peer: ConnectionPeer<'_>, port: DestinationPort<'_>) -> bool {
        let of_peer = self.peers.is_empty() || self.peers.iter().any(|one| one.contains(peer));
        of_peer && (self.ports.is_empty() || self.ports.iter().any(|one| one.contains(port)))
    }
}

impl PolicyPeer {
    fn contains(&self, peer: ConnectionPeer<'_>) -> bool {
        match self {
            Self::Block { block, except } => {
                let address = peer.address;
                block.contains(address) && !except.iter().any(|block| block.contains(address))
            }
            Self::Pods(selector) => peer.workload.is_some_and(|workload| {
                let selectors = &workload.network_policies.selectors;
                selectors.binary_search(selector).is_ok()
            }),
        }
    }
}

impl PolicyPort {
    fn contains(&self, port: DestinationPort<'_>) -> bool {
        match self {
            Self::Range(first, last) => (*first..=*last).contains(&port.number),
            Self::Name(name) => {
                let mut named = port.named.iter();
                named.any(|(known, number)| known == name && *number == port.number)
            }
        }
    }
}

/// The port of a destination, and what the destination calls its ports.
#[derive(Clone, Copy, Debug)]
struct DestinationPort<'a> {
    number: u16,
    named: &'a [(Arc<str>, u16)],
}

impl<'a> DestinationPort<'a> {
    fn of(workload: Option<&'a Workload>, number: u16) -> Self {
        Self {
            number,
            named: workload.map_or(&[], |workload| &workload.network_policies.ports),
        }
    }
}

impl fmt::Display for PolicyDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::workload;
    use crate::workload::PolicyMembership;

    fn block(block: &str, except: &[&str]) -> PolicyPeer {
        let except = except.iter().map(|block| block.parse().unwrap());
        PolicyPeer::Block {
            block: block.parse().unwrap(),
            except: except.collect(),
        }
    }

    fn pods(selector: &str) -> PolicyPeer {
        PolicyPeer::Pods(selector.into())
    }

    fn rule(peers: &[PolicyPeer], ports: &[PolicyPort]) -> PolicyRule {
        PolicyRule {
            peers: peers.to_vec(),
            ports: ports.to_vec(),
        }
    }

    fn named(name: &str) -> PolicyPort {
        PolicyPort::Name(name.into())
    }

    /// Policies of these names and rules, which are for either direction.
    fn policies(rules: &[(&str, &[PolicyRule])]) -> NetworkPolicies {
        let mut policies = NetworkPolicies::default();
        for (name, rules) in rules {
            policies.insert(NetworkPolicy {
                key: NamespacedName::new("default", name),
                ingress: rules.to_vec(),
                egress: rules.to_vec(),
            });
        }
        policies
    }

    /// The pod that policies of these names select in either direction. Its port 8080 is
    /// called `http`.
    fn selected(names: &[&str]) -> Workload {
        let names = names
            .iter()
            .map(|name| NamespacedName::new("default", name));
        let names: Vec<_> = names.collect();
        let mut web = workload("web", "10.0.0.1", "node-1");
        web.network_policies = Arc::new(PolicyMembership {
            ingress: names.clone(),
            egress: names,
            ports: vec![("http".into(), 8080)],
            ..PolicyMembership::default()
        });
        web
    }

    /// A pod that these selectors match. Its port 9090 is called `http`.
    fn peer(selectors: &[&str]) -> Workload {
        let mut peer = workload("peer", "10.0.0.2", "node-2");
        let selectors = selectors.iter().map(|selector| (*selector).into());
        peer.network_policies = Arc::new(PolicyMembership {
            selectors: selectors.collect(),
            ports: vec![("http".into(), 9090)],
            ..PolicyMembership::default()
        });
        peer
    }

    fn of(workload: &Workload) -> ConnectionPeer<'_> {
        ConnectionPeer {
            address: workload.addresses[0],
            workload: Some(workload),
        }
    }

    fn stranger(address: &str) -> ConnectionPeer<'static> {
        ConnectionPeer {
            address: address.parse().unwrap(),
            workload: None,
        }
    }

    #[test]
    fn a_pod_that_no_policy_selects_admits_everything() {
        let none = policies(&[("web", &[])]);
        let web = selected(&[]);
        assert_eq!(none.authorize_ingress(&web, stranger("1.1.1.1"), 1), Ok(()));
        assert_eq!(none.authorize_egress(&web, stranger("1.1.1.1"), 1), Ok(()));
    }

    #[test]
    fn a_rule_admits_the_peers_and_ports_that_it_names_and_nothing_else() {
        let all: &[PolicyRule] = &[rule(&[], &[])];
        let by_peer = &[rule(&[pods("app=peer")], &[])];
        let by_port = &[rule(&[], &[PolicyPort::Range(8000, 8080), named("admin")])];
        let by_both = &[rule(&[pods("app=peer")], &[PolicyPort::Range(80, 80)])];
        let by_block = &[rule(&[block("10.0.0.0/8", &["10.1.0.0/16"])], &[])];
        let by_name = &[rule(&[], &[named("http")])];
        let (known, other) = (peer(&["app=peer"]), peer(&["app=other"]));
        let (known, other) = (of(&known), of(&other));
        let cases = [
            ("none", &[] as &[PolicyRule], known, 80, false),
            ("all", all, stranger("1.1.1.1"), 80, true),
            ("peer", by_peer, known, 80, true),
            ("another peer", by_peer, other, 80, false),
            ("no pod", by_peer, stranger("10.0.0.2"), 80, false),
            ("first port", by_port, other, 8000, true),
            ("last port", by_port, other, 8080, true),
            ("port below", by_port, other, 7999, false),
            ("port above", by_port, other, 8081, false),
            ("peer and port", by_both, known, 80, true),
            ("peer, not port", by_both, known, 81, false),
            ("port, not peer", by_both, other, 80, false),
            ("block", by_block, stranger("10.0.0.9"), 80, true),
            (
                "mapped block",
                by_block,
                stranger("::ffff:10.0.0.9"),
                80,
                true,
            ),
            ("exception", by_block, stranger("10.1.0.9"), 80, false),
            ("outside", by_block, stranger("11.0.0.9"), 80, false),
            ("name", by_name, other, 8080, true),
            ("not that name", by_name, other, 9090, false),
        ];
        let web = selected(&["web"]);
        for (case, rules, peer, port, admitted) in cases {
            let policies = policies(&[("web", rules)]);
            let result = policies.authorize_ingress(&web, peer, port);
            assert_eq!(result.is_ok(), admitted, "{case}: {result:?}");
        }
    }

    #[test]
    fn a_name_of_a_port_is_the_destinations() {
        let policies = policies(&[("web", &[rule(&[], &[named("http")])])]);
        let (web, peer) = (selected(&["web"]), peer(&[]));
        assert!(policies.authorize_ingress(&web, of(&peer), 8080).is_ok());
        assert!(policies.authorize_egress(&web, of(&peer), 9090).is_ok());
        assert!(policies.authorize_egress(&web, of(&peer), 8080).is_err());
        let unknown = stranger("10.0.0.2");
        assert!(policies.authorize_egress(&web, unknown, 9090).is_err());
    }

    #[test]
    fn policies_of_one_pod_add_up() {
        let from_a: &[PolicyRule] = &[rule(&[pods("a")], &[])];
        let from_b: &[PolicyRule] = &[rule(&[pods("b")], &[])];
        let policies = policies(&[("none", &[]), ("a", from_a), ("b", from_b)]);
        let web = selected(&["none", "a", "b"]);
        for (selector, admitted) in [("a", true), ("b", true), ("c", false)] {
            let peer = peer(&[selector]);
            let result = policies.authorize_ingress(&web, of(&peer), 80);
            assert_eq!(result.is_ok(), admitted, "{selector}");
        }
    }

    #[test]
    fn a_policy_whose_rules_have_not_arrived_admits_nothing_and_cuts_nothing() {
        let policies = policies(&[("a", &[rule(&[pods("a")], &[])])]);
        let web = selected(&["a", "missing"]);
        let (known, other) = (peer(&["a"]), peer(&["b"]));
        assert!(policies.authorize_ingress(&web, of(&known), 80).is_ok());
        let denied = policies.authorize_ingress(&web, of(&other), 80);
        let denied = denied.unwrap_err();
        assert!(matches!(denied, NetworkPolicyDenied::NotArrived(_)));
        assert!(!denied.ends_connections());
        let all_known = selected(&["a"]);
        let denied = policies.authorize_ingress(&all_known, of(&other), 80);
        let denied = denied.unwrap_err();
        assert!(denied.ends_connections());
        assert_eq!(
            denied.to_string(),
            "no ingress rule of default/web's NetworkPolicies (a) admits 10.0.0.2 on port 80"
        );
    }

    #[test]
    fn the_revision_is_another_when_a_policy_is_and_only_then() {
        let mut policies = policies(&[("a", &[rule(&[pods("a")], &[])])]);
        let first = policies.revision().clone();
        let key = NamespacedName::new("default", "a");
        let same = NetworkPolicy::clone(policies.get(&key).unwrap());
        policies.insert(same.clone());
        policies.remove(&NamespacedName::new("default", "missing"));
        assert_eq!(*policies.clone().revision(), first);
        policies.insert(NetworkPolicy {
            ingress: vec![],
            ..same.clone()
        });
        let second = policies.revision().clone();
        assert_ne!(second, first);
        policies.insert(same);
        assert_ne!(*policies.revision(), first);
        policies.remove(&key);
        assert_ne!(*policies.revision(), second);
        assert_ne!(NetworkPolicies::default().revision(), policies.revision());
    }

    #[test]
    fn directions_are_apart_and_a_pod_reaches_itself() {
        let policies = policies(&[("web", &[])]);
        let mut web = selected(&["web"]);
        let peer = peer(&[]);
        assert!(policies.authorize_ingress(&web, of(&web), 80).is_ok());
        assert!(policies.authorize_egress(&web, of(&peer), 80).is_err());
        Arc::make_mut(&mut web.network_policies).egress.clear();
        assert!(policies.authorize_egress(&web, of(&peer), 80).is_ok());
        assert!(policies.authorize_ingress(&web, of(&peer), 80).is_err());
    }
}
