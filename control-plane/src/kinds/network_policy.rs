//! NetworkPolicies: which pods they select, and which connections they admit. Proxies enforce
//! them on connections of the mesh, which a CNI doesn't see.

mod peer_selector;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy as KubernetesPolicy, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as KubernetesSelector, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use weft_model::NamespacedName;
use weft_model::address::{AddressBlock, InvalidAddressBlock, canonical_ip};
use weft_model::network_policy::{NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule};

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::label_selector::LabelSelector;
use peer_selector::PeerNamespaces;
pub(crate) use peer_selector::PeerSelector;

/// The most peers of pods of one policy that are different. Each pod of the mesh is compared
/// with each of them, and agents have the outcome of all.
const MOST_SELECTORS: usize = 256;

/// The most peers, exceptions and ports of all rules of one policy. A connection that is
/// refused was compared with each of them.
const MOST_PARTS: usize = 1024;

/// A NetworkPolicy, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetworkPolicyObject {
    /// The pods of its namespace that it selects.
    pub(crate) pods: LabelSelector,
    /// It is about connections to these pods.
    pub(crate) isolates_ingress: bool,
    /// It is about connections from these pods.
    pub(crate) isolates_egress: bool,
    /// Its rules, as agents are told of them.
    pub(crate) policy: NetworkPolicy,
    /// The peers in its rules that are pods.
    pub(crate) peers: Vec<Arc<PeerSelector>>,
    /// Seconds from 1970 until it was created; 0 when it doesn't say.
    pub(crate) created: i64,
}

impl KindObject for NetworkPolicyObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "NetworkPolicy",
        group: "networking.k8s.io",
        versions: &["v1"],
        plural: "networkpolicies",
        provider: Provider::Kubernetes,
        fallback: "it counts as if it weren't there (a peer or a port that can't be read admits nothing, and pods are selected without what can't be read)",
    })];

    type Document = KubernetesPolicy;

    fn name(&self) -> NamespacedName {
        self.policy.key.clone()
    }

    fn read(_: Kind, policy: KubernetesPolicy, form: Form) -> Read<Self> {
        let missing = || FieldError::missing("spec", "it says which pods the policy selects");
        let spec = match (policy.spec, form) {
            // The API server checks them itself.
            (_, Form::Admission) => return Read::nothing(),
            (None, Form::Manifest) => return Err(missing()).into(),
            (spec, Form::Manifest | Form::Live) => spec.unwrap_or_default(),
        };
        match document::namespaced_name(&policy.metadata) {
            Ok(key) => Self::with_problems(key, document::created(&policy.metadata), &spec),
            Err(error) => Err(error).into(),
        }
    }

    /// The same policy, as an API server's would be read: what can't be read of it admits
    /// nothing, and pods are selected without it.
    fn substitute(document: &Value) -> Option<Self> {
        let metadata = document.get("metadata").cloned().unwrap_or_default();
        let metadata: ObjectMeta = document::typed(metadata).unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or("unreadable");
        let key = NamespacedName::new(document::namespace(&metadata), name);
        let spec = document.get("spec").cloned().unwrap_or_default();
        let spec = document::typed(spec.clone()).unwrap_or_else(|_| NetworkPolicySpec {
            pod_selector: readable_selector(&spec),
            policy_types: Some(["Ingress", "Egress"].map(str::to_owned).to_vec()),
            ..NetworkPolicySpec::default()
        });
        Self::with_problems(key, document::created(&metadata), &spec).object
    }
}

/// The selector of a spec that can't be read as a whole: as much of it as can.
fn readable_selector(spec: &Value) -> Option<KubernetesSelector> {
    let selector = spec.get("podSelector").cloned()?;
    document::typed(selector.clone()).ok().or_else(|| {
        let part = |name: &str| selector.get(name).cloned().unwrap_or_default();
        Some(KubernetesSelector {
            match_labels: document::typed(part("matchLabels")).ok(),
            match_expressions: document::typed(part("matchExpressions")).ok(),
        })
    })
}

impl NetworkPolicyObject {
    fn with_problems(key: NamespacedName, created: i64, spec: &NetworkPolicySpec) -> Read<Self> {
        let selector = spec.pod_selector.clone().unwrap_or_default();
        let (pods, problems) = LabelSelector::read("spec.podSelector", &selector);
        let mut reader = Reader {
            namespace: Arc::clone(&key.namespace),
            peers: BTreeSet::new(),
            parts: 0,
            left_out: BTreeMap::new(),
            problems,
        };
        let (isolates_ingress, isolates_egress) = reader.directions(spec);
        let ingress = spec.ingress.iter().flatten().enumerate();
        let ingress = ingress.filter_map(|(index, rule)| {
            let (path, name) = (format!("spec.ingress[{index}]"), "from");
            reader.rule(&path, name, rule.from.as_deref(), rule.ports.as_deref())
        });
        let ingress: Vec<_> = ingress.collect();
        let egress = spec.egress.iter().flatten().enumerate();
        let egress = egress.filter_map(|(index, rule)| {
            let (path, name) = (format!("spec.egress[{index}]"), "to");
            reader.rule(&path, name, rule.to.as_deref(), rule.ports.as_deref())
        });
        let egress: Vec<_> = egress.collect();
        let problems = reader.problems();
        let policy = Self {
            pods,
            isolates_ingress,
            isolates_egress,
            policy: NetworkPolicy {
                key,
                ingress,
                egress,
            },
            peers: reader.peers.into_iter().collect(),
            created,
        };
        Read::with_problems(policy, problems)
    }
}

/// Reads the parts of one policy. What can't be read, or is more than a policy may have,
/// admits nothing.
struct Reader {
    namespace: Arc<str>,
    peers: BTreeSet<Arc<PeerSelector>>,
    /// Peers, exceptions and ports so far.
    parts: usize,
    /// By the limit that they are over: the first part that was left out, and how many.
    left_out: BTreeMap<Limit, (String, usize)>,
    problems: Vec<FieldError>,
}

/// A limit of a policy.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Limit {
    Selectors,
    Parts,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selectors => write!(f, "{MOST_SELECTORS} different peers that are pods"),
            Self::Parts => write!(f, "{MOST_PARTS} peers, exceptions and ports"),
        }
    }
}

impl Reader {
    /// All that is wrong.
    fn problems(&mut self) -> Vec<FieldError> {
        let over = std::mem::take(&mut self.left_out).into_iter();
        let over = over.map(|(limit, (field, count))| {
            let message =
                format!("a policy has {limit} at most; from this on, {count} admit nothing");
            FieldError::new(field, message)
        });
        let mut problems = std::mem::take(&mut self.problems);
        problems.extend(over);
        problems
    }

    /// Counts a part of some parts of its own; whether the policy may have it.
    fn takes(&mut self, path: impl Into<String>, parts: usize) -> bool {
        let fits = self.parts + parts <= MOST_PARTS;
        match fits {
            true => self.parts += parts,
            false => self.leave_out(Limit::Parts, path.into()),
        }
        fits
    }

    fn leave_out(&mut self, limit: Limit, path: String) {
        self.left_out.entry(limit).or_insert((path, 0)).1 += 1;
    }

    /// Whether it is about connections to its pods, and about those from them.
    fn directions(&mut self, spec: &NetworkPolicySpec) -> (bool, bool) {
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let unknown = types.iter().enumerate();
        let unknown = unknown.filter(|(_, name)| !matches!(&***name, "Ingress" | "Egress"));
        let unknown = unknown.map(|(index, name)| {
            let field = format!("spec.policyTypes[{index}]");
            FieldError::not_one_of(field, name, &["Ingress", "Egress"])
        });
        let before = self.problems.len();
        self.problems.extend(unknown);
        if self.problems.len() > before {
            return (true, true);
        }
        let has = |wanted: &str| types.iter().any(|name| name == wanted);
        match types.is_empty() {
            true => (
                true,
                spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
            ),
            false => (has("Ingress"), has("Egress")),
        }
    }

    /// A rule; `None` when it admits nothing.
    fn rule(
        &mut self,
        path: &str,
        peers_field: &str,
        peers: Option<&[NetworkPolicyPeer]>,
        ports: Option<&[NetworkPolicyPort]>,
    ) -> Option<PolicyRule> {
        let (peers, ports) = (peers.unwrap_or_default(), ports.unwrap_or_default());
        let mut rule = PolicyRule::default();
        for (index, peer) in peers.iter().enumerate() {
            let path = format!("{path}.{peers_field}[{index}]");
            let blocks = peer.ip_block.as_ref();
            let except = blocks.and_then(|block| block.except.as_ref());
            if !self.takes(&*path, 1 + except.map_or(0, Vec::len)) {
                continue;
            }
            match self.peer(&path, peer) {
                Ok(peer) => rule.peers.extend(peer),
                Err(problem) => self.problems.push(problem),
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{index}]");
            if !self.takes(&*path, 1) {
                continue;
            }
            match read_port(&path, port) {
                Ok(port) => rule.ports.extend(port),
                Err(problem) => self.problems.push(problem),
            }
        }
        // Without any it would admit all of them.
        let is_void = |written: bool, read: bool| written && !read;
        let of_peers = is_void(!peers.is_empty(), !rule.peers.is_empty());
        let of_ports = is_void(!ports.is_empty(), !rule.ports.is_empty());
        (!of_peers && !of_ports).then_some(rule)
    }

    /// A peer; `None` when it is over a limit.
    fn peer(
        &mut self,
        path: &str,
        peer: &NetworkPolicyPeer,
    ) -> Result<Option<PolicyPeer>, FieldError> {
        let (namespaces, pods) = (&peer.namespace_selector, &peer.pod_selector);
        if let Some(block) = &peer.ip_block {
            return match (namespaces, pods) {
                (None, None) => read_block(&format!("{path}.ipBlock"), block).map(Some),
                _ => Err(FieldError::new(
                    path,
                    "a peer with an ipBlock has no selectors",
                )),
            };
        }
        if namespaces.is_none() && pods.is_none() {
            let message = "it has one of ipBlock, namespaceSelector and podSelector";
            return Err(FieldError::new(path, message));
        }
        let selector = |field: &str, selector: &_| {
            let (selector, problems) = LabelSelector::read(&format!("{path}.{field}"), selector);
            match problems.into_iter().next() {
                Some(problem) => Err(problem),
                None => Ok(selector),
            }
        };
        let pods = pods.as_ref().map(|pods| selector("podSelector", pods));
        let namespaces = match namespaces {
            Some(selected) => PeerNamespaces::Selected(selector("namespaceSelector", selected)?),
            None => PeerNamespaces::Own(Arc::clone(&self.namespace)),
        };
        let selector = PeerSelector::new(namespaces, pods.transpose()?.unwrap_or_default());
        let peer = PolicyPeer::Pods(Arc::clone(&selector.name));
        if !self.peers.contains(&selector) && self.peers.len() == MOST_SELECTORS {
            self.leave_out(Limit::Selectors, path.to_owned());
            return Ok(None);
        }
        self.peers.insert(Arc::new(selector));
        Ok(Some(peer))
    }
}

fn read_block(path: &str, block: &IPBlock) -> Result<PolicyPeer, FieldError> {
    let except = block.except.iter().flatten().enumerate();
    let except = except.map(|(index, text)| cidr(format!("{path}.except[{index}]"), text));
    Ok(PolicyPeer::Block {
        block: cidr(format!("{path}.cidr"), &block.cidr)?,
        except: except.collect::<Result<_, _>>()?,
    })
}

/// Kubernetes has long taken bits behind the prefix, and ignored them.
fn cidr(field: String, text: &str) -> Result<AddressBlock, FieldError> {
    let block = match text.parse::<AddressBlock>() {
        Err(InvalidAddressBlock::HostBits(_, length, network)) => {
            AddressBlock::new(network, length)
        }
        read => read,
    };
    let block = block.map_err(|error| FieldError::new(&field, error))?;
    match canonical_ip(block.network()) == block.network() {
        true => Ok(block),
        false => {
            let message = format!("`{text}` is a block of IPv4: write it as one");
            Err(FieldError::new(field, message))
        }
    }
}

/// A port; `None` when it isn't one of TCP.
fn read_port(path: &str, port: &NetworkPolicyPort) -> Result<Option<PolicyPort>, FieldError> {
    match port.protocol.as_deref() {
        None | Some("TCP") => {}
        Some("UDP" | "SCTP") => return Ok(None),
        Some(other) => {
            let field = format!("{path}.protocol");
            return Err(FieldError::not_one_of(
                field,
                other,
                &["TCP", "UDP", "SCTP"],
            ));
        }
    }
    let number = |field: &str, number: i32| {
        let checked = u16::try_from(number).ok().filter(|port| *port != 0);
        checked.ok_or_else(|| {
            let message = format!("{number} is not a port between 1 and 65535");
            FieldError::new(format!("{path}.{field}"), message)
        })
    };
    let end = || format!("{path}.endPort");
    match (&port.port, port.end_port) {
        (None, None) => Ok(Some(PolicyPort::Range(1, u16::MAX))),
        (Some(IntOrString::Int(first)), last) => {
            let first = number("port", *first)?;
            let last = last.map_or(Ok(first), |last| number("endPort", last))?;
            match first <= last {
                true => Ok(Some(PolicyPort::Range(first, last))),
                false => Err(FieldError::new(
                    end(),
                    format!("{last} is below port {first}"),
                )),
            }
        }
        (Some(IntOrString::String(name)), None) => Ok(Some(PolicyPort::Name(name.as_str().into()))),
        (None | Some(IntOrString::String(_)), Some(_)) => Err(FieldError::new(
            end(),
            "a range begins with the number of a port",
        )),
    }
}

#[cfg(test)]
mod tests;
