//! What an agent has to be told, given what it holds. Pure.

use std::collections::{HashMap, HashSet};

use prost::Message;
use weft_proto::v1::{DiscoveryResponse, ResourceKind, ResourceVersion};

use crate::index::Resources;

/// Resources in one response at the most.
const MOST_RESOURCES: usize = 500;
/// Bytes of one response, about; well below what gRPC clients take (4 MiB).
const MOST_BYTES: usize = 1024 * 1024;

/// What an agent holds: kind and name, and version.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    kinds: HashSet<ResourceKind>,
    versions: HashMap<(ResourceKind, String), String>,
}

impl Holdings {
    /// As its Subscribe says.
    pub(super) fn new(kinds: HashSet<ResourceKind>, held: Vec<ResourceVersion>) -> Self {
        let held = held
            .into_iter()
            .map(|held| ((held.kind(), held.name), held.version));
        let versions = held.filter(|((kind, _), _)| kinds.contains(kind)).collect();
        Self { kinds, versions }
    }

    /// The responses that bring it to `resources`, and holds them from now on. Changes
    /// come in the order in which they may be applied, removals in the reverse.
    pub(super) fn advance(&mut self, resources: &Resources) -> Vec<DiscoveryResponse> {
        let mut responses = vec![DiscoveryResponse::default()];
        let mut bytes = 0;
        let wanted = resources
            .iter()
            .filter(|((kind, _), _)| self.kinds.contains(kind));
        for (key, versioned) in wanted {
            if self.versions.get(key) == Some(&versioned.version) {
                continue;
            }
            let size = versioned.message.encoded_len();
            let last = responses
                .last()
                .map_or(0, |response| response.changed.len());
            if last >= MOST_RESOURCES || (last > 0 && bytes + size > MOST_BYTES) {
                responses.push(DiscoveryResponse::default());
                bytes = 0;
            }
            bytes += size;
            if let Some(response) = responses.last_mut() {
                response.changed.push(versioned.message.clone());
            }
            self.versions.insert(key.clone(), versioned.version.clone());
        }
        let gone = self
            .versions
            .keys()
            .filter(|key| resources.get(key).is_none());
        let mut gone: Vec<_> = gone.cloned().collect();
        gone.sort_by(|a, b| b.cmp(a));
        for key in gone {
            let version = self.versions.remove(&key).unwrap_or_default();
            let (kind, name) = key;
            let removed = ResourceVersion {
                kind: kind.into(),
                name,
                version,
            };
            match responses.last_mut() {
                Some(response) if response.removed.len() < MOST_RESOURCES => {
                    response.removed.push(removed);
                }
                _ => responses.push(DiscoveryResponse {
                    removed: vec![removed],
                    ..Default::default()
                }),
            }
        }
        responses.retain(|response| !response.changed.is_empty() || !response.removed.is_empty());
        responses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use crate::manifest::parse;

    fn index(pods: std::ops::Range<usize>) -> Index {
        let mut index = Index::default();
        let pod = |n| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: p{n} }}\n\
                 spec: {{ nodeName: n, containers: [] }}\nstatus: {{ podIP: 10.0.{}.{} }}\n",
                n / 250,
                n % 250 + 1
            )
        };
        let text: String = pods.map(pod).collect();
        index.apply("a".into(), parse(&text).unwrap());
        index
    }

    fn all() -> HashSet<ResourceKind> {
        HashSet::from([
            ResourceKind::Workload,
            ResourceKind::Service,
            ResourceKind::Endpoint,
        ])
    }

    #[test]
    fn a_large_mesh_comes_in_portions_and_then_only_changes_come() {
        let mut holdings = Holdings::new(all(), Vec::new());
        let (resources, _) = index(0..1200).compute();
        let responses = holdings.advance(&resources);
        let sizes: Vec<_> = responses
            .iter()
            .map(|response| response.changed.len())
            .collect();
        assert_eq!(sizes, [500, 500, 200]);
        assert!(holdings.advance(&resources).is_empty());
        let responses = holdings.advance(&index(1..1201).compute().0);
        assert_eq!(responses.len(), 1);
        assert_eq!(
            (responses[0].changed.len(), responses[0].removed.len()),
            (1, 1)
        );
    }

    #[test]
    fn a_reconnecting_agent_is_told_only_what_it_missed() {
        let (resources, _) = index(0..10).compute();
        let held = resources
            .iter()
            .skip(1)
            .map(|((kind, name), versioned)| ResourceVersion {
                kind: (*kind).into(),
                name: name.clone(),
                version: versioned.version.clone(),
            });
        let gone = ResourceVersion {
            kind: ResourceKind::Service.into(),
            name: "shop/gone".into(),
            version: "1".into(),
        };
        let mut holdings = Holdings::new(all(), held.chain([gone]).collect());
        let responses = holdings.advance(&resources);
        assert_eq!(
            (responses[0].changed.len(), responses[0].removed.len()),
            (1, 1)
        );
    }

    #[test]
    fn kinds_that_were_not_asked_for_are_not_sent() {
        let mut holdings = Holdings::new(HashSet::from([ResourceKind::Service]), Vec::new());
        assert!(holdings.advance(&index(0..3).compute().0).is_empty());
    }
}
