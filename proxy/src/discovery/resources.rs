//! What the proxy knows of the control plane's resources, and what one response
//! does to it. Pure: the stream that feeds it is in `client`.

use std::collections::{BTreeMap, HashMap};

use weft_model::Change;
use weft_proto::v1::{self, ResourceKind};

/// The versions of the resources that were applied, and those that couldn't be.
#[derive(Debug, Default)]
pub struct KnownResources {
    versions: HashMap<(ResourceKind, String), String>,
    rejected: BTreeMap<(&'static str, String), v1::Rejection>,
    /// Changes of responses that belong to one that is still to come.
    waiting: Vec<Change>,
}

/// What follows from one response.
#[derive(Debug, PartialEq)]
pub struct Applied {
    /// To be applied to the snapshot, in this order.
    pub changes: Vec<Change>,
    /// The answer to the control plane.
    pub acknowledge: v1::Acknowledge,
    /// Everything that existed when the stream began has now been seen.
    pub synchronized: bool,
}

impl KnownResources {
    /// What to tell the control plane on a new stream, so that it sends only what
    /// differs.
    pub fn versions(&self) -> Vec<v1::ResourceVersion> {
        let known = self
            .versions
            .iter()
            .map(|((kind, name), version)| v1::ResourceVersion {
                kind: *kind as i32,
                name: name.clone(),
                version: version.clone(),
            });
        known.collect()
    }

    /// Resources that the proxy can't use. Each keeps the content that it had.
    pub fn rejected(&self) -> impl ExactSizeIterator<Item = &v1::Rejection> {
        self.rejected.values()
    }

    /// Takes one response. A resource that can't be used is rejected alone and
    /// keeps its previous version; everything else is applied.
    pub fn apply(&mut self, response: v1::DiscoveryResponse) -> Applied {
        let mut changes = std::mem::take(&mut self.waiting);
        changes.reserve(response.changed.len() + response.removed.len());
        let mut rejected = Vec::new();
        for resource in response.changed {
            match self.change(resource) {
                Ok(change) => changes.push(change),
                Err(rejection) => rejected.push(rejection),
            }
        }
        for removed in response.removed {
            match self.remove(removed) {
                Ok(change) => changes.extend(change),
                Err(rejection) => rejected.push(rejection),
            }
        }
        if response.more {
            self.waiting = std::mem::take(&mut changes);
        }
        Applied {
            changes,
            acknowledge: v1::Acknowledge {
                sequence: response.sequence,
                rejected,
            },
            synchronized: response.synchronized,
        }
    }

    fn change(&mut self, resource: v1::Resource) -> Result<Change, v1::Rejection> {
        let kind = kind_of(&resource);
        let (name, version) = (resource.name.clone(), resource.version.clone());
        match Change::try_from(resource) {
            Ok(change) => {
                self.rejected.remove(&(kind.as_str_name(), name.clone()));
                self.versions.insert((kind, name), version);
                Ok(change)
            }
            Err(error) => {
                let rejection = v1::Rejection {
                    kind: kind as i32,
                    name: name.clone(),
                    version,
                    reason: error.to_string(),
                };
                self.rejected
                    .insert((kind.as_str_name(), name), rejection.clone());
                Err(rejection)
            }
        }
    }

    /// Nothing to do when it isn't held: the control plane may not know that.
    fn remove(&mut self, removed: v1::ResourceVersion) -> Result<Option<Change>, v1::Rejection> {
        let kind = ResourceKind::try_from(removed.kind).unwrap_or(ResourceKind::Unspecified);
        match weft_proto::removal(kind, &removed.name) {
            Ok(change) => {
                self.rejected
                    .remove(&(kind.as_str_name(), removed.name.clone()));
                Ok(self.versions.remove(&(kind, removed.name)).map(|_| change))
            }
            Err(error) => Err(v1::Rejection {
                kind: removed.kind,
                name: removed.name,
                version: removed.version,
                reason: error.to_string(),
            }),
        }
    }
}

fn kind_of(resource: &v1::Resource) -> ResourceKind {
    match &resource.resource {
        Some(v1::resource::Resource::Workload(_)) => ResourceKind::Workload,
        Some(v1::resource::Resource::Service(_)) => ResourceKind::Service,
        Some(v1::resource::Resource::Endpoint(_)) => ResourceKind::Endpoint,
        Some(v1::resource::Resource::Route(_)) => ResourceKind::Route,
        Some(v1::resource::Resource::TrafficPolicy(_)) => ResourceKind::TrafficPolicy,
        Some(v1::resource::Resource::ExternalService(_)) => ResourceKind::ExternalService,
        Some(v1::resource::Resource::Node(_)) => ResourceKind::Node,
        Some(v1::resource::Resource::NetworkPolicy(_)) => ResourceKind::NetworkPolicy,
        Some(v1::resource::Resource::AuthorizationPolicy(_)) => ResourceKind::AuthorizationPolicy,
        Some(v1::resource::Resource::RevocationList(_)) => ResourceKind::RevocationList,
        None => ResourceKind::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weft_model::NamespacedName;
    use weft_testing::resources::{changed, headless_service};

    fn removed(name: &str) -> v1::ResourceVersion {
        let kind = ResourceKind::Service as i32;
        v1::ResourceVersion {
            kind,
            name: name.into(),
            version: String::new(),
        }
    }

    #[test]
    fn a_bad_resource_is_rejected_alone_and_keeps_its_version() {
        let mut known = KnownResources::default();
        known.apply(changed(1, vec![headless_service("web", "1", 80)]));
        let applied = known.apply(changed(
            2,
            vec![
                headless_service("web", "2", 70_000),
                headless_service("api", "1", 80),
            ],
        ));
        assert_eq!(applied.changes.len(), 1);
        let [rejection] = applied.acknowledge.rejected.as_slice() else {
            panic!("{applied:?}")
        };
        assert_eq!(
            (rejection.name.as_str(), rejection.version.as_str()),
            ("shop/web", "2")
        );
        assert!(rejection.reason.contains("70000"), "{}", rejection.reason);
        assert_eq!(known.rejected().len(), 1);
        let web = known
            .versions()
            .into_iter()
            .find(|version| version.name == "shop/web")
            .unwrap();
        assert_eq!(web.version, "1");
    }

    #[test]
    fn a_rejection_is_over_once_the_resource_is_good_or_gone() {
        let mut known = KnownResources::default();
        known.apply(changed(
            1,
            vec![
                headless_service("web", "1", 0),
                headless_service("api", "1", 70_000),
            ],
        ));
        assert_eq!(known.rejected().len(), 2);
        known.apply(changed(2, vec![headless_service("web", "2", 80)]));
        let mut gone = changed(3, vec![]);
        gone.removed = vec![removed("shop/api")];
        let applied = known.apply(gone);
        assert!(applied.changes.is_empty(), "it was never applied");
        assert_eq!(known.rejected().len(), 0);
    }

    #[test]
    fn responses_that_belong_together_are_applied_together() {
        let mut known = KnownResources::default();
        let mut first = changed(1, vec![headless_service("web", "1", 80)]);
        first.more = true;
        let applied = known.apply(first);
        assert_eq!(applied.changes, []);
        assert_eq!(applied.acknowledge.sequence, 1);
        assert_eq!(known.versions().len(), 1);
        let second = changed(2, vec![headless_service("api", "1", 80)]);
        let applied = known.apply(second);
        let names = applied.changes.iter().map(|change| match change {
            Change::Service(service) => service.key.name.to_string(),
            other => panic!("{other:?}"),
        });
        assert_eq!(names.collect::<Vec<_>>(), ["web", "api"]);
        assert_eq!(known.apply(changed(3, vec![])).changes, []);
    }

    #[test]
    fn removal_of_an_unknown_kind_is_rejected_and_of_an_unknown_name_ignored() {
        let mut known = KnownResources::default();
        let mut message = changed(4, vec![]);
        message.removed = vec![
            removed("shop/none"),
            v1::ResourceVersion {
                kind: 99,
                ..removed("x")
            },
        ];
        let applied = known.apply(message);
        assert!(applied.changes.is_empty());
        assert_eq!(applied.acknowledge.sequence, 4);
        assert_eq!(applied.acknowledge.rejected.len(), 1);
    }

    #[test]
    fn a_resource_without_content_is_rejected() {
        let empty = v1::Resource {
            name: "x".into(),
            ..Default::default()
        };
        let applied = KnownResources::default().apply(changed(1, vec![empty]));
        assert_eq!(applied.acknowledge.rejected.len(), 1);
    }

    proptest! {
        /// However resources come and go, what is held is what was applied.
        #[test]
        fn versions_mirror_the_applied_changes(
            steps in prop::collection::vec((0u8..4, any::<bool>(), prop_oneof![Just(80u32), Just(0)]), 0..60),
        ) {
            let mut known = KnownResources::default();
            let mut mesh = weft_model::Mesh::default();
            for (sequence, (index, remove, port)) in (1u64..).zip(steps) {
                let name = format!("s{index}");
                let mut message = changed(sequence, vec![]);
                if remove {
                    message.removed = vec![removed(&format!("shop/{name}"))];
                } else {
                    message.changed = vec![headless_service(&name, &sequence.to_string(), port)];
                }
                for change in known.apply(message).changes {
                    mesh.apply(change);
                }
                let versions = known.versions();
                prop_assert_eq!(versions.len(), mesh.services().count());
                for version in versions {
                    let key: NamespacedName = version.name.parse().unwrap();
                    prop_assert!(mesh.service(&key).is_some());
                }
            }
        }
    }
}
