//! Pods' part in NetworkPolicies: which select them, and as which peers they are admitted. All
//! selectors are evaluated here, so that a pod that comes or goes changes no policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::workload::PolicyMembership;

use super::objects::Objects;
use super::peer_selectors::Selectors;
use crate::kinds::{NAMESPACE_NAME, NamespaceObject, NetworkPolicyObject, PodObject};

/// A pod's part in NetworkPolicies. Of one that is not enrolled nobody asks which policies
/// select it.
pub(super) fn membership(
    pod: &PodObject,
    objects: &Objects,
    is_enrolled: bool,
) -> PolicyMembership {
    let namespace = &pod.key.namespace;
    let policies = objects
        .tables
        .in_namespace::<NetworkPolicyObject>(namespace);
    let policies = policies.filter(|(_, policy)| is_enrolled && policy.pods.matches(&pod.labels));
    let policies: Vec<_> = policies.collect();
    let of_direction = |isolates: fn(&NetworkPolicyObject) -> bool| {
        let policies = policies.iter().filter(|(_, policy)| isolates(policy));
        policies.map(|(name, _)| (*name).clone()).collect()
    };
    let peers = objects.peer_selectors.of_pods_in(namespace);
    let mut selectors: Vec<_> = with_labels(namespace, objects, |labels| {
        let matching = peers.filter(|peer| peer.matches(namespace, labels, &pod.labels));
        matching.map(|peer| Arc::clone(&peer.name)).collect()
    });
    selectors.sort_unstable();
    let ports = pod.ports.iter();
    PolicyMembership {
        ingress: of_direction(|policy| policy.isolates_ingress),
        egress: of_direction(|policy| policy.isolates_egress),
        selectors,
        ports: ports
            .map(|(name, port)| (name.as_str().into(), *port))
            .collect(),
    }
}

/// Whether one of some selectors of peers matches a pod.
pub(super) fn is_peer(selectors: &Selectors, pod: &PodObject, objects: &Objects) -> bool {
    let namespace = &pod.key.namespace;
    with_labels(namespace, objects, |labels| {
        let mut peers = selectors.iter();
        peers.any(|peer| peer.matches(namespace, labels, &pod.labels))
    })
}

/// Does something with the labels of a namespace. One of which nothing is known has its name,
/// as every namespace has in Kubernetes.
fn with_labels<T>(
    namespace: &str,
    objects: &Objects,
    with: impl FnOnce(&BTreeMap<String, String>) -> T,
) -> T {
    let key = NamespacedName::new("", namespace);
    match objects.tables.get::<NamespaceObject>(&key) {
        Some(object) => with(&object.labels),
        None => with(&BTreeMap::from([(
            NAMESPACE_NAME.to_owned(),
            namespace.to_owned(),
        )])),
    }
}
