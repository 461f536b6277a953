//! The resources as they go over the wire, each with its version, and what of them
//! changed since when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::workload::Workload;
use weft_proto::v1::{Resource, ResourceKind, resource};

use super::audience::{Audience, Proxy};

/// Bytes of a content hash that make a version.
const VERSION_BYTES: usize = 12;
/// Changes that are remembered. A stream that is further behind starts again.
const REMEMBERED: usize = 100_000;

/// Kind and name, ordered so that no resource comes before what it refers to:
/// workloads, services, endpoints, routes, TrafficPolicies; external services and nodes refer
/// to nothing. NetworkPolicies come after the workloads whose selectors they name, and
/// AuthorizationPolicies after those that they select.
pub(crate) type ResourceKey = (ResourceKind, Arc<str>);

/// One resource with its version.
#[derive(Clone, Debug)]
pub(crate) struct Versioned {
    /// The resource itself.
    pub(crate) change: Change,
    /// A hash of its content: the same from every replica and after every restart.
    pub(crate) version: String,
    /// As it goes over the wire.
    pub(crate) message: Resource,
}

/// Everything that agents are told, and the latest changes of it.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    by_key: BTreeMap<ResourceKey, Arc<Versioned>>,
    /// The proxies that are told of AuthorizationPolicies.
    audience: Audience,
    /// Counts the changes.
    revision: u64,
    /// Keys of the latest changes, newest last.
    journal: VecDeque<ResourceKey>,
}

impl Resources {
    /// Takes in changes. True when one of them is news.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) -> bool {
        let before = self.revision;
        for change in changes {
            let (kind, name) = weft_proto::kind_and_name(&change);
            let key = (kind, Arc::from(name.as_str()));
            let new = Versioned::new(change, name).map(Arc::new);
            let known = self.by_key.get(&key).cloned();
            let version = |versioned: &Option<Arc<Versioned>>| {
                versioned
                    .as_ref()
                    .map(|versioned| versioned.version.clone())
            };
            if version(&known) == version(&new) {
                continue;
            }
            match &new {
                Some(new) => self.by_key.insert(key.clone(), Arc::clone(new)),
                None => self.by_key.remove(&key),
            };
            self.note(key);
            let (known, new) = (known.as_deref(), new.as_deref());
            let [before, now] = [known, new].map(|versioned| versioned.and_then(workload));
            for policy in self.audience.update(before, now) {
                let name = Arc::from(policy.to_string());
                self.note((ResourceKind::AuthorizationPolicy, name));
            }
        }
        let excess = self.journal.len().saturating_sub(REMEMBERED);
        self.journal.drain(..excess);
        self.revision != before
    }

    fn note(&mut self, key: ResourceKey) {
        self.revision += 1;
        self.journal.push_back(key);
    }

    /// Whether a proxy has workloads that an AuthorizationPolicy selects.
    pub(super) fn is_for(&self, policy: &NamespacedName, proxy: &Proxy) -> bool {
        self.audience.has(policy, proxy)
    }

    /// Number of changes so far.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Keys that changed after a revision, in the order of the keys. None when that was too
    /// long ago to know.
    pub(crate) fn changed_since(&self, revision: u64) -> Option<BTreeSet<ResourceKey>> {
        let count = usize::try_from(self.revision.checked_sub(revision)?).ok()?;
        let first = self.journal.len().checked_sub(count)?;
        Some(self.journal.range(first..).cloned().collect())
    }

    /// The resource of that kind and name.
    pub(crate) fn get(&self, key: &ResourceKey) -> Option<&Arc<Versioned>> {
        self.by_key.get(key)
    }

    /// Those that come after a key, or all, in the order in which they may be applied.
    pub(crate) fn after(
        &self,
        key: Option<&ResourceKey>,
    ) -> impl Iterator<Item = (&ResourceKey, &Arc<Versioned>)> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key.range((start, Bound::Unbounded))
    }

    /// Number of resources.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}

impl Versioned {
    /// None when the change takes a resource away.
    fn new(change: Change, name: String) -> Option<Self> {
        let content = match &change {
            Change::Workload(workload) => resource::Resource::Workload(workload.into()),
            Change::Service(service) => resource::Resource::Service(service.into()),
            Change::Endpoint(endpoint) => resource::Resource::Endpoint(endpoint.into()),
            Change::Route(route) => resource::Resource::Route(route.into()),
            Change::TrafficPolicy(policy) => resource::Resource::TrafficPolicy((&**policy).into()),
            Change::ExternalService(service) => resource::Resource::ExternalService(service.into()),
            Change::Node(node) => resource::Resource::Node(node.into()),
            Change::NetworkPolicy(policy) => resource::Resource::NetworkPolicy(policy.into()),
            Change::AuthorizationPolicy(policy) => {
                resource::Resource::AuthorizationPolicy(policy.into())
            }
            Change::RevocationList(list) => resource::Resource::RevocationList(list.into()),
            Change::WorkloadRemoved(_)
            | Change::ServiceRemoved(_)
            | Change::EndpointRemoved(_)
            | Change::RouteRemoved(_)
            | Change::TrafficPolicyRemoved(_)
            | Change::ExternalServiceRemoved(_)
            | Change::NodeRemoved(_)
            | Change::NetworkPolicyRemoved(_)
            | Change::AuthorizationPolicyRemoved(_)
            | Change::RevocationListRemoved => return None,
        };
        let mut message = Resource {
            name,
            version: String::new(),
            resource: Some(content),
        };
        let version = version(&message.encode_to_vec());
        message.version.clone_from(&version);
        Some(Self {
            change,
            version,
            message,
        })
    }
}

fn workload(versioned: &Versioned) -> Option<&Workload> {
    match &versioned.change {
        Change::Workload(workload) => Some(workload),
        _ => None,
    }
}

fn version(content: &[u8]) -> String {
    let hash = digest(&SHA256, content);
    hash.as_ref()
        .iter()
        .take(VERSION_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use weft_model::service::{Service, ServiceKind};

    use super::*;

    fn gone(name: &str) -> Change {
        Change::ServiceRemoved(NamespacedName::new("shop", name))
    }

    fn service(name: &str, host: &str) -> Change {
        let key = NamespacedName::new("shop", name);
        Change::Service(Service::new(key, host.into(), ServiceKind::Headless))
    }

    fn names(changed: Option<BTreeSet<ResourceKey>>) -> Option<Vec<String>> {
        Some(
            changed?
                .into_iter()
                .map(|(_, name)| name.to_string())
                .collect(),
        )
    }

    #[test]
    fn what_is_no_news_makes_no_revision() {
        let mut resources = Resources::default();
        assert!(resources.apply(vec![service("a", "1")]));
        assert!(!resources.apply(vec![service("a", "1"), gone("b")]));
        assert!(resources.apply(vec![service("a", "2")]));
        assert_eq!(resources.revision(), 2);
    }

    #[test]
    fn each_key_is_named_once_and_none_before_the_revision() {
        let mut resources = Resources::default();
        resources.apply(vec![service("a", "1"), service("b", "1")]);
        let revision = resources.revision();
        resources.apply(vec![service("b", "2"), service("b", "3"), gone("a")]);
        let changed = names(resources.changed_since(revision)).unwrap();
        assert_eq!(changed, ["shop/a", "shop/b"]);
        assert_eq!(
            names(resources.changed_since(resources.revision())),
            Some(vec![])
        );
    }

    #[test]
    fn what_is_too_long_ago_is_not_known() {
        let mut resources = Resources::default();
        for n in 0..=REMEMBERED {
            resources.apply(vec![service("a", &n.to_string())]);
        }
        assert!(resources.changed_since(0).is_none());
        assert!(resources.changed_since(1).is_some());
        assert!(resources.changed_since(u64::MAX).is_none(), "of the future");
    }
}
