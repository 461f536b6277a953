use serde_json::{Value, json};

use super::*;
use crate::kinds::annotations::Texts;
use crate::kinds::tests::read_live;

fn read(spec: &Value) -> (NetworkPolicyObject, Vec<String>) {
    let object = json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec });
    let read = read_live::<NetworkPolicyObject>(NetworkPolicyObject::KIND, object);
    let problems = read.problems.iter().map(ToString::to_string);
    (read.object.unwrap(), problems.collect())
}

/// One that has no problem.
fn policy(spec: &Value) -> NetworkPolicyObject {
    let (policy, problems) = read(spec);
    assert!(problems.is_empty(), "{problems:?}");
    policy
}

/// The peer whose selector has that text.
fn peer_of(policy: &NetworkPolicyObject, text: &str) -> PolicyPeer {
    let mut peers = policy.peers.iter();
    let peer = peers.find(|peer| peer.to_string() == text).unwrap();
    PolicyPeer::Pods(Arc::clone(&peer.name))
}

/// The problems of a peer and a port of a rule, and the rules that are left.
fn rule(peer: Value, port: Value) -> (Vec<PolicyRule>, Vec<String>) {
    let (policy, problems) = read(&json!({ "ingress": [{ "from": [peer], "ports": [port] }] }));
    (policy.policy.ingress, problems)
}

#[test]
fn the_directions_are_those_that_kubernetes_takes_by_default() {
    let cases = [
        (json!({}), (true, false)),
        (json!({ "ingress": [{}] }), (true, false)),
        (json!({ "egress": [] }), (true, false)),
        (json!({ "egress": [{}] }), (true, true)),
        (json!({ "policyTypes": [] }), (true, false)),
        (
            json!({ "policyTypes": ["Egress"], "ingress": [{}] }),
            (false, true),
        ),
        (
            json!({ "policyTypes": ["Ingress"], "egress": [{}] }),
            (true, false),
        ),
        (
            json!({ "policyTypes": ["Ingress", "Egress"] }),
            (true, true),
        ),
    ];
    for (spec, expected) in cases {
        let policy = policy(&spec);
        let directions = (policy.isolates_ingress, policy.isolates_egress);
        assert_eq!(directions, expected, "{spec}");
    }
}

#[test]
fn peers_are_pods_of_the_own_namespace_of_others_or_blocks() {
    let app = |app: &str| json!({ "matchLabels": { "app": app } });
    let policy = policy(&json!({
        "podSelector": app("web"),
        "ingress": [{ "from": [
            { "podSelector": app("a") },
            { "podSelector": {} },
            { "namespaceSelector": { "matchLabels": { "team": "x" } } },
            { "namespaceSelector": {}, "podSelector": app("b") },
            { "ipBlock": { "cidr": "10.0.0.7/8", "except": ["10.1.0.0/16"] } },
        ] }],
    }));
    assert_eq!(policy.pods.to_string(), "app=web");
    let texts = ["shop/app=a", "shop/", "[team=x]/", "[]/app=b"];
    let mut expected: Vec<_> = texts.iter().map(|text| peer_of(&policy, text)).collect();
    assert_eq!(policy.peers.len(), texts.len());
    expected.push(PolicyPeer::Block {
        block: "10.0.0.0/8".parse().unwrap(),
        except: vec!["10.1.0.0/16".parse().unwrap()],
    });
    assert_eq!(policy.policy.ingress[0].peers, expected);
    assert!(policy.policy.ingress[0].ports.is_empty());
}

#[test]
fn a_peer_is_matched_by_its_namespace_and_its_labels() {
    let labels = |key: &str, value: &str| Texts::from([(key.to_owned(), value.to_owned())]);
    let app = json!({ "matchLabels": { "app": "a" } });
    let policy = policy(&json!({ "ingress": [{ "from": [
        { "podSelector": app },
        { "namespaceSelector": { "matchLabels": { "team": "x" } }, "podSelector": app },
    ] }] }));
    let is_own = |peer: &&Arc<PeerSelector>| matches!(peer.namespaces, PeerNamespaces::Own(_));
    let (own, elsewhere): (Vec<_>, Vec<_>) = policy.peers.iter().partition(is_own);
    let [own, elsewhere] = [own[0], elsewhere[0]];
    let (x, y) = (labels("team", "x"), labels("team", "y"));
    let (a, b) = (labels("app", "a"), labels("app", "b"));
    assert!(own.matches("shop", &y, &a));
    assert!(!own.matches("shop", &y, &b));
    assert!(!own.matches("other", &y, &a));
    assert!(elsewhere.matches("other", &x, &a));
    assert!(!elsewhere.matches("other", &x, &b));
    assert!(!elsewhere.matches("shop", &y, &a));
}

#[test]
fn ports_are_those_of_tcp() {
    let range = PolicyPort::Range;
    let cases = [
        (json!([]), Some(vec![])),
        (json!([{ "port": 80 }]), Some(vec![range(80, 80)])),
        (
            json!([{ "port": 80, "endPort": 90 }]),
            Some(vec![range(80, 90)]),
        ),
        (
            json!([{ "port": "http" }]),
            Some(vec![PolicyPort::Name("http".into())]),
        ),
        (
            json!([{ "protocol": "TCP" }]),
            Some(vec![range(1, u16::MAX)]),
        ),
        (
            json!([{ "protocol": "UDP", "port": 53 }, { "port": 53 }]),
            Some(vec![range(53, 53)]),
        ),
        // Not a rule for all ports.
        (json!([{ "protocol": "UDP", "port": 53 }]), None),
        (json!([{ "protocol": "SCTP" }]), None),
    ];
    for (ports, expected) in cases {
        let policy = policy(&json!({ "ingress": [{ "ports": ports }] }));
        let read = policy.policy.ingress.into_iter().next();
        assert_eq!(read.map(|rule| rule.ports), expected, "{ports}");
    }
}

#[test]
fn what_can_not_be_read_admits_nothing_and_is_named() {
    let block =
        |cidr: &str, except: &[&str]| json!({ "ipBlock": { "cidr": cidr, "except": except } });
    let (any, port) = (block("0.0.0.0/0", &[]), json!({ "port": 80 }));
    let pods = |operator: &str| json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": operator }] } });
    let mut both = any.clone();
    both["podSelector"] = json!({});
    let cases = [
        (
            block("10.0.0.0/33", &[]),
            port.clone(),
            "from[0].ipBlock.cidr",
        ),
        (
            block("10.0.0.0/8", &["x"]),
            port.clone(),
            "from[0].ipBlock.except[0]",
        ),
        (
            block("::ffff:10.0.0.0/104", &[]),
            port.clone(),
            "from[0].ipBlock.cidr",
        ),
        (json!({}), port.clone(), "from[0]"),
        (both, port.clone(), "from[0]"),
        (
            pods("Has"),
            port.clone(),
            "from[0].podSelector.matchExpressions[0].operator",
        ),
        (any.clone(), json!({ "port": 0 }), "ports[0].port"),
        (
            any.clone(),
            json!({ "port": 80, "endPort": 79 }),
            "ports[0].endPort",
        ),
        (
            any.clone(),
            json!({ "port": "http", "endPort": 79 }),
            "ports[0].endPort",
        ),
        (any.clone(), json!({ "endPort": 79 }), "ports[0].endPort"),
        (
            any,
            json!({ "port": 80, "protocol": "tcp" }),
            "ports[0].protocol",
        ),
    ];
    for (peer, port, field) in cases {
        let what = format!("{peer} {port}");
        let (rules, problems) = rule(peer, port);
        assert!(rules.is_empty(), "{what}: {rules:?}");
        let expected = format!("field spec.ingress[0].{field}: ");
        assert!(problems[0].starts_with(&expected), "{what}: {problems:?}");
    }
    // What is beside it counts.
    let (policy, problems) = read(&json!({ "ingress": [
        { "ports": [{ "port": 80 }, { "port": 70_000 }] }, { "from": [{}] },
    ] }));
    assert_eq!(policy.policy.ingress.len(), 1);
    assert_eq!(policy.policy.ingress[0].ports, [PolicyPort::Range(80, 80)]);
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_selector_or_a_type_that_can_not_be_read_isolates_more() {
    let selector = json!({ "matchExpressions": [{ "key": "a", "operator": "Has" }] });
    let (policy, problems) = read(&json!({ "podSelector": selector, "policyTypes": ["ingress"] }));
    assert!(policy.pods.matches(&Texts::new()));
    assert!(policy.isolates_ingress && policy.isolates_egress);
    let fields = [
        "spec.podSelector.matchExpressions[0].operator",
        "spec.policyTypes[0]",
    ];
    for (problem, field) in problems.iter().zip(fields) {
        assert!(
            problem.starts_with(&format!("field {field}: ")),
            "{problem}"
        );
    }
    assert_eq!(problems.len(), 2);
}

fn without(label: usize) -> Value {
    let expression = json!({ "key": format!("x{label}"), "operator": "DoesNotExist" });
    json!({ "namespaceSelector": {}, "podSelector": { "matchExpressions": [expression] } })
}

fn block(except: usize) -> Value {
    let except: Vec<_> = (0..except).map(|_| "10.1.0.0/16").collect();
    json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": except } })
}

#[test]
fn different_pods_beyond_the_limit_are_no_peers_and_are_named_once() {
    let peers: Vec<_> = (0..MOST_SELECTORS + 40).map(without).collect();
    // One that counts already isn't another.
    let again = json!({ "from": [without(0)] });
    let beyond = json!({ "from": [without(MOST_SELECTORS)] });
    let (policy, problems) = read(&json!({ "ingress": [{ "from": peers }, again, beyond] }));
    assert_eq!(policy.peers.len(), MOST_SELECTORS);
    let peers: Vec<_> = policy
        .policy
        .ingress
        .iter()
        .map(|rule| rule.peers.len())
        .collect();
    // The last rule admits nothing, not everything.
    assert_eq!(peers, [MOST_SELECTORS, 1]);
    let expected = "field spec.ingress[0].from[256]: a policy has 256 different peers that are \
                    pods at most; from this on, 41 admit nothing";
    assert_eq!(problems, [expected]);
}

#[test]
fn peers_exceptions_and_ports_beyond_the_limit_admit_nothing_and_are_named_once() {
    let blocks = |count: usize, except: usize| vec![block(except); count];
    let whole: Vec<_> = blocks(MOST_PARTS / 2, 1);
    let (policy, problems) = read(&json!({ "ingress": [{ "from": whole }] }));
    assert_eq!(policy.policy.ingress[0].peers.len(), MOST_PARTS / 2);
    assert!(problems.is_empty(), "{problems:?}");

    let ports: Vec<_> = (1..=MOST_PARTS)
        .map(|port| json!({ "port": port }))
        .collect();
    let (policy, problems) = read(&json!({
        "ingress": [{ "from": blocks(MOST_PARTS - 1, 0) }, { "from": [block(1)] }, { "ports": ports }],
        "egress": [{ "to": blocks(1, 0) }],
    }));
    let [blocks, ports] = [&policy.policy.ingress[0], &policy.policy.ingress[1]];
    assert_eq!((blocks.peers.len(), ports.ports.len()), (MOST_PARTS - 1, 1));
    assert_eq!(policy.policy.ingress.len(), 2);
    assert!(policy.policy.egress.is_empty());
    let expected = "field spec.ingress[1].from[0]: a policy has 1024 peers, exceptions and ports \
                    at most; from this on, 1025 admit nothing";
    assert_eq!(problems, [expected]);
}

#[test]
fn names_of_selectors_are_short_and_apart() {
    let long = "x".repeat(300);
    let labels = json!({ "matchLabels": { long: "y" } });
    let policy = policy(&json!({ "ingress": [{ "from": [
        { "podSelector": labels }, { "namespaceSelector": labels },
    ] }] }));
    let [a, b] = [&policy.peers[0].name, &policy.peers[1].name];
    assert_ne!(a, b);
    assert_eq!((a.len(), b.len()), (16, 16));
}
