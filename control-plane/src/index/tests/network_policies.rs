//! NetworkPolicies among other objects.

use std::collections::BTreeSet;

use weft_model::network_policy::{NetworkPolicy, PolicyPeer};
use weft_model::workload::PolicyMembership;

use super::*;

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{ name: {name}, namespace: shop }}\nspec: {{ {spec} }}\n"
    )
}

fn labelled(name: &str, namespace: &str, labels: &str) -> String {
    let address = format!("10.0.{}.{}", namespace.len(), name.len());
    let pod = pod(name, &address, ENABLED);
    pod.replace("namespace: shop", &format!("namespace: {namespace}"))
        .replace("labels: { app: web }", &format!("labels: {{ {labels} }}"))
}

fn namespace(name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {{ {labels} }} }}\n"
    )
}

fn membership(bed: &Bed, pod: &str) -> PolicyMembership {
    let workloads = bed.workloads();
    let workload = workloads.iter().find(|workload| &*workload.name == pod);
    (*workload.unwrap().network_policies).clone()
}

fn policies(bed: &Bed) -> Vec<NetworkPolicy> {
    let policies = bed.changes().into_iter().filter_map(|change| match change {
        Change::NetworkPolicy(policy) => Some(policy),
        _ => None,
    });
    policies.collect()
}

/// What agents know the peer by that is the first in a rule of ingress.
fn peer_name(bed: &Bed, policy: &str, index: usize) -> String {
    let policies = policies(bed);
    let policy = policies.iter().find(|known| *known.key.name == *policy);
    match &policy.unwrap().ingress[0].peers[index] {
        PolicyPeer::Pods(name) => name.to_string(),
        PolicyPeer::Block { .. } => unreachable!("it is pods"),
    }
}

fn names(policies: &[NamespacedName]) -> Vec<String> {
    policies.iter().map(ToString::to_string).collect()
}

const SELECT_WEB: &str = "podSelector: { matchLabels: { app: web } }";

#[test]
fn a_policy_selects_pods_of_its_namespace_by_their_labels() {
    let mut bed = bed(&[
        ("web.yaml", &labelled("web", "shop", "app: web")),
        ("db.yaml", &labelled("database", "shop", "app: db")),
        ("other.yaml", &labelled("elsewhere", "other", "app: web")),
        ("p.yaml", &policy("p", SELECT_WEB)),
        (
            "q.yaml",
            &policy("q", "podSelector: {}, policyTypes: [Egress]"),
        ),
    ]);
    assert_eq!(names(&membership(&bed, "web").ingress), ["shop/p"]);
    assert_eq!(names(&membership(&bed, "web").egress), ["shop/q"]);
    assert!(membership(&bed, "database").ingress.is_empty());
    assert_eq!(names(&membership(&bed, "database").egress), ["shop/q"]);
    let elsewhere = membership(&bed, "elsewhere");
    assert!(elsewhere.ingress.is_empty() && elsewhere.egress.is_empty());
    assert_eq!(policies(&bed).len(), 2);

    bed.apply("db.yaml", &labelled("database", "shop", "app: web"));
    assert_eq!(names(&membership(&bed, "database").ingress), ["shop/p"]);
    bed.delete("p.yaml", &policy("p", SELECT_WEB));
    assert!(membership(&bed, "web").ingress.is_empty());
    assert!(membership(&bed, "database").ingress.is_empty());
    assert_eq!(policies(&bed).len(), 1);
    // Nobody asks it of a pod outside the mesh.
    let outside = labelled("web", "shop", "app: web").replace(ENABLED, "");
    bed.apply("web.yaml", &outside);
    assert!(membership(&bed, "web").egress.is_empty());
}

#[test]
fn a_pod_says_as_which_peers_it_is_admitted_whatever_comes_first() {
    let from = "podSelector: {}, ingress: [{ from: [\
        { podSelector: { matchLabels: { app: a } } },\
        { namespaceSelector: { matchLabels: { team: x } } },\
        { namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: other } }, podSelector: { matchLabels: { app: a } } } ] }]";
    let mut bed = bed(&[
        ("a.yaml", &labelled("a", "shop", "app: a")),
        ("bb.yaml", &labelled("bb", "shop", "app: b")),
        ("p.yaml", &policy("p", from)),
        ("ccc.yaml", &labelled("ccc", "other", "app: a")),
    ]);
    let selectors = |bed: &Bed, pod: &str| {
        let selectors = membership(bed, pod).selectors;
        selectors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let [own, team, other] = [0, 1, 2].map(|index| peer_name(&bed, "p", index));
    let both = BTreeSet::from([team.clone(), other.clone()]);
    assert_eq!(selectors(&bed, "a"), [own]);
    assert!(selectors(&bed, "bb").is_empty());
    assert_eq!(selectors(&bed, "ccc"), [other]);

    // Labels of a namespace change nothing but its pods.
    bed.apply("other.yaml", &namespace("other", "team: x"));
    assert_eq!(selectors(&bed, "ccc"), both.into_iter().collect::<Vec<_>>());
    bed.apply("shop.yaml", &namespace("shop", "team: x"));
    assert_eq!(selectors(&bed, "bb"), [team]);
    bed.apply("shop.yaml", &namespace("shop", "team: y"));
    assert!(selectors(&bed, "bb").is_empty());
    bed.delete("p.yaml", &policy("p", from));
    assert!(selectors(&bed, "ccc").is_empty());
}

#[test]
fn a_pod_that_comes_changes_no_policy_and_its_rules_come_after_what_they_name() {
    let from =
        "podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }] }]";
    let mut bed = bed(&[("a.yaml", &pod("a", "10.0.0.1", ENABLED))]);
    let text = policy("p", from);
    for object in parse(&text).unwrap() {
        let applied = Event::Applied("p.yaml".to_owned(), object);
        bed.index.handle_event(applied);
    }
    let changes = bed.settle();
    assert!(matches!(changes[0], Change::Workload(_)), "{changes:?}");
    assert!(
        matches!(changes[1], Change::NetworkPolicy(_)),
        "{changes:?}"
    );
    for object in parse(&pod("b", "10.0.0.2", ENABLED)).unwrap() {
        bed.index
            .handle_event(Event::Applied("b.yaml".to_owned(), object));
    }
    let changes = bed.settle();
    assert_eq!(changes.len(), 1, "{changes:?}");
    let b = membership(&bed, "b");
    assert_eq!(b.selectors, [peer_name(&bed, "p", 0).into()]);
    assert_eq!(b.ports, [("http".into(), 8080)]);
}

#[test]
fn a_manifest_that_is_wrong_is_named() {
    let wrong = policy(
        "p",
        "podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/99 } }] }]",
    );
    let error = parse(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("spec.ingress[0].from[0].ipBlock.cidr"),
        "{error}"
    );
    let error = parse(&wrong.replace("cidr: 10.0.0.0/99", "cidr: [1]")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("spec.ingress[0].from[0].ipBlock.cidr"),
        "{error}"
    );
}

/// A policy, as old as that day of a month, with that many peers from a number on.
fn aged(name: &str, day: u32, peers: std::ops::Range<usize>) -> String {
    let peer = |label| {
        format!(
            "{{ namespaceSelector: {{}}, podSelector: {{ matchExpressions: \
             [{{ key: x{label}, operator: DoesNotExist }}] }} }}"
        )
    };
    let peers: Vec<_> = peers.map(peer).collect();
    let spec = format!(
        "podSelector: {{}}, ingress: [{{ from: [{}] }}]",
        peers.join(", ")
    );
    let created = format!("namespace: shop, creationTimestamp: '2026-01-{day:02}T00:00:00Z'");
    policy(name, &spec).replace("namespace: shop", &created)
}

#[test]
fn peers_beyond_those_of_a_namespace_are_the_newest_policies_and_admit_no_pods() {
    let [old, new, newest] = [
        aged("z-old", 1, 0..256),
        aged("m-new", 2, 256..512),
        aged("a-newest", 3, 500..540),
    ];
    let elsewhere = aged("far", 4, 900..901).replace("namespace: shop", "namespace: far");
    let pod = labelled("web", "other", "app: web");
    // Whatever comes first.
    let mut bed = bed(&[
        ("newest", &newest),
        ("new", &new),
        ("web", &pod),
        ("old", &old),
    ]);
    bed.apply("far", &elsewhere);
    let selectors = |bed: &Bed| membership(bed, "web").selectors;
    let knows = |bed: &Bed, policy: &str, index| {
        let name = peer_name(bed, policy, index);
        selectors(bed).iter().any(|selector| **selector == *name)
    };
    assert_eq!(selectors(&bed).len(), 513);
    assert!(selectors(&bed).is_sorted());
    assert!(knows(&bed, "z-old", 255) && knows(&bed, "m-new", 255) && knows(&bed, "far", 0));
    // Those that an older policy has, too, count.
    let of_newest = |bed: &Bed| {
        (0..40)
            .filter(|index| knows(bed, "a-newest", *index))
            .count()
    };
    assert_eq!(of_newest(&bed), 12);
    let conflicts = |bed: &Bed| {
        bed.index
            .conflicts()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let expected = "NetworkPolicies of namespace shop: together they have more than 512 different \
                    peers that are pods, so that the last ones of the newest policies admit \
                    nothing: of a-newest";
    assert_eq!(conflicts(&bed), [expected]);

    bed.delete("old", &old);
    assert_eq!(of_newest(&bed), 40);
    assert_eq!(selectors(&bed).len(), 285);
    assert!(conflicts(&bed).is_empty());
    bed.apply("old", &old);
    assert_eq!(of_newest(&bed), 12);
    for (origin, text) in [
        ("old", old),
        ("new", new),
        ("newest", newest),
        ("far", elsewhere),
    ] {
        bed.delete(origin, &text);
    }
    assert!(selectors(&bed).is_empty());
}

#[test]
fn a_peer_that_policies_of_two_namespaces_name_stays_with_the_one_that_is_left() {
    let here = aged("here", 1, 0..1);
    let there = aged("there", 2, 0..1).replace("namespace: shop", "namespace: far");
    let pod = labelled("web", "other", "app: web");
    let mut bed = bed(&[("here", &here), ("there", &there), ("web", &pod)]);
    assert_eq!(membership(&bed, "web").selectors.len(), 1);
    bed.delete("there", &there);
    assert_eq!(membership(&bed, "web").selectors.len(), 1);
    bed.delete("here", &here);
    assert!(membership(&bed, "web").selectors.is_empty());
}
