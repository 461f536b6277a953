//! The pods that are a peer in a rule of a NetworkPolicy.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::kinds::annotations::Texts;
use crate::kinds::label_selector::LabelSelector;

/// The pods that are a peer in a rule.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct PeerSelector {
    pub(crate) namespaces: PeerNamespaces,
    pods: LabelSelector,
    /// What agents know it by. Made of its text, which may be long: workloads have the names
    /// of all that match them.
    pub(crate) name: Arc<str>,
}

/// Bytes of the hash that is a selector's name: nobody finds another text for the same.
const NAME_LENGTH: usize = 12;

/// The namespaces of pods that are a peer in a rule.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum PeerNamespaces {
    /// The policy's own.
    Own(Arc<str>),
    /// Those with such labels.
    Selected(LabelSelector),
}

impl PeerSelector {
    pub(super) fn new(namespaces: PeerNamespaces, pods: LabelSelector) -> Self {
        let mut selector = Self {
            namespaces,
            pods,
            name: "".into(),
        };
        let hash = digest(&SHA256, selector.to_string().as_bytes());
        selector.name = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..NAME_LENGTH]).into();
        selector
    }

    /// Whether a pod with these labels, of that namespace with these labels, is one of them.
    pub(crate) fn matches(
        &self,
        namespace: &str,
        namespace_labels: &Texts,
        pod_labels: &Texts,
    ) -> bool {
        let of_namespace = match &self.namespaces {
            PeerNamespaces::Own(own) => **own == *namespace,
            PeerNamespaces::Selected(selector) => selector.matches(namespace_labels),
        };
        of_namespace && self.pods.matches(pod_labels)
    }
}

impl PeerNamespaces {
    /// The one namespace; `None` when there may be several.
    pub(crate) fn own(&self) -> Option<&Arc<str>> {
        match self {
            Self::Own(namespace) => Some(namespace),
            Self::Selected(_) => None,
        }
    }
}

impl fmt::Display for PeerSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pods = &self.pods;
        match &self.namespaces {
            PeerNamespaces::Own(namespace) => write!(f, "{namespace}/{pods}"),
            PeerNamespaces::Selected(namespaces) => write!(f, "[{namespaces}]/{pods}"),
        }
    }
}
