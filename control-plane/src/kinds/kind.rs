//! Kinds, as Kubernetes' API names them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use kube::api::{ApiResource, GroupVersionKind};
use weft_model::NamespacedName;

/// The type of the condition that says whether the mesh follows an object.
pub(crate) const ACCEPTED: &str = "Accepted";

/// The usual consequence of an object that can't be read.
pub(super) const LAST_GOOD: &str = "what it said before stays in force, if it said anything";

/// A kind of objects that the mesh cares about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(&'static KindInfo);

/// A kind's place in Kubernetes' API.
#[derive(Debug)]
pub(crate) struct KindInfo {
    /// Its name, such as `Pod`.
    pub(crate) name: &'static str,
    /// Its API group; empty for the core's.
    pub(crate) group: &'static str,
    /// The versions that are read, the newest first.
    pub(crate) versions: &'static [&'static str],
    /// Its name in paths, such as `pods`.
    pub(crate) plural: &'static str,
    /// Its origin, which decides what its absence means.
    pub(crate) provider: Provider,
    /// The consequence of what can't be read, for whoever wrote it.
    pub(crate) fallback: &'static str,
}

/// Origin of a kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Provider {
    /// Every API server has it.
    Kubernetes,
    /// Weft's own: `deploy/crds`.
    Weft,
    /// The Gateway API, which a cluster need not have.
    GatewayApi,
}

/// Names an object: its kind, namespace (empty where the kind has none) and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct ObjectKey {
    pub(crate) kind: Kind,
    /// Namespace and name.
    pub(crate) name: NamespacedName,
}

impl Kind {
    /// The kind of that description.
    pub(super) const fn new(info: &'static KindInfo) -> Self {
        Self(info)
    }

    /// Its newest version with its group, as manifests begin.
    pub(crate) fn api_version(self) -> String {
        let version = self.versions.first().copied().unwrap_or_default();
        match self.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    /// Its resources in the API, one of each version that is read, the newest first.
    pub(crate) fn resources(self) -> impl Iterator<Item = ApiResource> {
        self.versions.iter().map(move |version| {
            let kind = GroupVersionKind::gvk(self.group, version, self.name);
            ApiResource::from_gvk_with_plural(&kind, self.plural)
        })
    }

    /// A cluster need not have it.
    pub(crate) fn is_optional(self) -> bool {
        self.provider != Provider::Kubernetes
    }

    fn id(self) -> (&'static str, &'static str) {
        (self.name, self.group)
    }
}

impl Deref for Kind {
    type Target = KindInfo;

    fn deref(&self) -> &KindInfo {
        self.0
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Kind {}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id().cmp(&other.id())
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.name.namespace {
            "" => write!(f, "{} {}", self.kind, self.name.name),
            _ => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
