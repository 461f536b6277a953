use serde_json::{Value, json};
use weft_model::authorization_policy::{Action, GrpcMethod, ServiceAccount, TextPattern};

use super::*;
use crate::kinds::label_selector::LabelSelector;
use crate::kinds::tests::read_live;

fn document(spec: Value, annotations: Value) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {
            "name": "web", "namespace": "shop", "generation": 3, "annotations": annotations,
        },
        "spec": spec,
    })
}

fn object(spec: Value) -> AuthorizationPolicyObject {
    let document = document(spec, json!({}));
    let read = read_live(AuthorizationPolicyObject::KIND, document);
    read.object.unwrap()
}

/// The first mistake of a rule.
fn mistake(rule: Value) -> String {
    let content = object(json!({ "rules": [rule] })).content;
    content.unwrap_err().to_string()
}

#[test]
fn what_is_left_out_says_nothing() {
    let object = object(json!({}));
    assert_eq!(object.target, PolicyTarget::Pods(LabelSelector::default()));
    let policy = object.content.unwrap();
    assert_eq!((policy.action, policy.is_dry_run), (Action::Allow, false));
    assert_eq!(policy.rules, []);
}

#[test]
fn all_parts_of_a_rule_are_understood() {
    let policy = object(json!({
        "action": "DENY",
        "rules": [
            {},
            {
                "from": [
                    {
                        "principals": ["spiffe://cluster.local/ns/shop/sa/web"],
                        "notNamespaces": ["test-*"],
                        "notIpBlocks": ["10.0.0.0/8"],
                    },
                    { "serviceAccounts": ["web", "bank/teller"] },
                ],
                "to": [
                    { "ports": [8080], "methods": ["GET"], "paths": ["/a/{*}"], "notHosts": ["*.test"] },
                    { "grpc": [{ "service": "shop.v1.Cart" }, { "method": "Get" }] },
                ],
                "when": [{ "header": "X-Role", "values": ["*"], "notValues": ["admin"] }],
            },
        ],
    }));
    let policy = policy.content.unwrap();
    assert_eq!(policy.action, Action::Deny);
    let [all, rule] = policy.rules.as_slice() else {
        panic!("{policy:?}")
    };
    assert!(all.is_empty());
    let [first, second] = rule.from.as_slice() else {
        panic!("{rule:?}")
    };
    let principal = first.principals.any_of[0].to_string();
    assert_eq!(principal, "cluster.local/ns/shop/sa/web");
    let tests = TextPattern::Prefix("test-".into());
    assert_eq!(first.namespaces.none_of, [tests]);
    assert_eq!(first.addresses.none_of.len(), 1);
    let account = |namespace: &str, name: &str| ServiceAccount {
        namespace: namespace.into(),
        name: name.into(),
    };
    let accounts = [account("shop", "web"), account("bank", "teller")];
    assert_eq!(second.service_accounts.any_of, accounts);
    let [http, grpc] = rule.to.as_slice() else {
        panic!("{rule:?}")
    };
    assert_eq!(http.ports.any_of, [8080]);
    assert_eq!(http.paths.any_of[0].to_string(), "/a/{*}");
    let suffix = TextPattern::Suffix(".test".into());
    assert_eq!(http.hosts.none_of, [suffix]);
    let get = GrpcMethod {
        service: None,
        method: Some("Get".into()),
    };
    assert_eq!(grpc.grpc.any_of[1], get);
    assert_eq!(rule.when[0].name, "x-role");
    assert_eq!(rule.when[0].values.any_of, [TextPattern::Any]);
}

fn assert_mistakes(rules: &[(Value, &str)]) {
    for (rule, expected) in rules {
        let found = mistake(rule.clone());
        assert!(found.starts_with(expected), "{rule}: {found}");
    }
}

#[test]
fn principals_and_claims_of_tokens_are_understood() {
    let policy = object(json!({ "rules": [{
        "from": [{
            "requestPrincipals": ["https://issuer.example/*"], "notRequestPrincipals": ["*/bob"],
        }],
        "when": [{ "claim": ["realm", "roles"], "notValues": ["guest"] }],
    }] }));
    let rule = &policy.content.unwrap().rules[0];
    let principals = &rule.from[0].request_principals;
    let issuer = TextPattern::Prefix("https://issuer.example/".into());
    assert_eq!(principals.any_of, [issuer]);
    assert_eq!(principals.none_of, [TextPattern::Suffix("/bob".into())]);
    assert_eq!(rule.claims[0].claim.to_string(), "[realm][roles]");
    let guest = TextPattern::Exact("guest".into());
    assert_eq!(rule.claims[0].values.none_of, [guest]);
}

#[test]
fn a_mistake_in_a_source_is_told_with_its_field() {
    assert_mistakes(&[
        (
            json!({ "from": [{ "principals": ["a*b"] }] }),
            "field spec.rules[0].from[0].principals[0]: `a*b` has a `*` that",
        ),
        (
            json!({ "from": [{ "ipBlocks": ["10.0.0.1/8"] }] }),
            "field spec.rules[0].from[0].ipBlocks[0]: 10.0.0.1/8 has bits",
        ),
        (
            json!({ "from": [{ "serviceAccounts": ["a/b/c"] }] }),
            "field spec.rules[0].from[0].serviceAccounts[0]: `a/b/c` is neither",
        ),
        (
            json!({ "from": [] }),
            "field spec.rules[0].from: it says nothing",
        ),
        (
            json!({ "from": [{}] }),
            "field spec.rules[0].from[0]: it says nothing",
        ),
        (
            json!({ "from": [{ "namespaces": [] }] }),
            "field spec.rules[0].from[0].namespaces: it says nothing",
        ),
    ]);
}

#[test]
fn a_mistake_in_an_operation_or_a_header_is_told_with_its_field() {
    assert_mistakes(&[
        (
            json!({ "to": [{ "ports": [0] }] }),
            "field spec.rules[0].to[0].ports[0]: 0 is not a port",
        ),
        (
            json!({ "to": [{ "paths": ["/a//b"] }] }),
            "field spec.rules[0].to[0].paths[0]: `/a//b` is not the form",
        ),
        (
            json!({ "to": [{ "paths": ["/a/{x}"] }] }),
            "field spec.rules[0].to[0].paths[0]: `/a/{x}` is not a template",
        ),
        (
            json!({ "to": [{ "hosts": ["Web.example"] }] }),
            "field spec.rules[0].to[0].hosts[0]: `Web.example` is no host",
        ),
        (
            json!({ "to": [{ "hosts": ["web.example:80"] }] }),
            "field spec.rules[0].to[0].hosts[0]: `web.example:80` is no host",
        ),
        (
            json!({ "to": [{ "grpc": [{}] }] }),
            "field spec.rules[0].to[0].grpc[0]: it says nothing",
        ),
        (
            json!({ "to": [{ "jwt": ["a"] }] }),
            "field spec.rules[0].to[0].jwt: unknown field",
        ),
        (
            json!({ "when": [{ "header": "x-role" }] }),
            "field spec.rules[0].when[0]: missing; a header or claim has",
        ),
        (
            json!({ "when": [{ "values": ["a"] }] }),
            "field spec.rules[0].when[0]: a condition is about",
        ),
        (
            json!({ "when": [{ "header": "x-a", "claim": ["a"], "values": ["a"] }] }),
            "field spec.rules[0].when[0]: a condition is about",
        ),
        (
            json!({ "when": [{ "claim": [""], "values": ["a"] }] }),
            "field spec.rules[0].when[0].claim: a claim has",
        ),
        (
            json!({ "when": [{ "header": "Host", "values": ["a"] }] }),
            "field spec.rules[0].when[0].header: requests of HTTP/2",
        ),
        (
            json!({ "when": [{ "header": ":path", "values": ["a"] }] }),
            "field spec.rules[0].when[0].header: `:path` is no name",
        ),
    ]);
}

#[test]
fn a_policy_is_bounded() {
    let rules: Vec<_> = (0..=AuthorizationPolicy::MOST_RULES)
        .map(|_| json!({}))
        .collect();
    let found = object(json!({ "rules": rules })).content.unwrap_err();
    assert!(
        found.to_string().contains("65 rules, and a policy has 64"),
        "{found}"
    );
    let namespaces: Vec<_> = (0..=AuthorizationPolicy::MOST_VALUES)
        .map(|n| format!("ns-{n}"))
        .collect();
    let found = mistake(json!({ "from": [{ "namespaces": namespaces }] }));
    assert!(
        found.contains("2049 values in all rules together"),
        "{found}"
    );
    let long = "a".repeat(AuthorizationPolicy::LONGEST_VALUE + 1);
    let found = mistake(json!({ "to": [{ "methods": [long] }] }));
    assert!(
        found.contains("1025 bytes, and a value has 1024"),
        "{found}"
    );
}

#[test]
fn it_selects_by_labels_or_by_services() {
    let target = |spec: Value| object(spec).target;
    let labels = json!({ "matchLabels": { "app": "web" } });
    let PolicyTarget::Pods(selector) = target(json!({ "selector": labels })) else {
        panic!("it selects pods")
    };
    assert_eq!(selector.to_string(), "app=web");
    let services = json!([{ "kind": "Service", "name": "web" }]);
    let web = NamespacedName::new("shop", "web");
    assert_eq!(
        target(json!({ "targetRefs": services })),
        PolicyTarget::Services(vec![web])
    );
    let both = object(json!({ "selector": labels, "targetRefs": services }));
    assert!(both.content.is_err());
    assert!(object(json!({ "targetRefs": [] })).content.is_err());
}

#[test]
fn a_dry_run_is_asked_for_by_an_annotation_and_a_typing_error_is_told() {
    let read = |annotations: Value| {
        let document = document(json!({}), annotations);
        let kind = AuthorizationPolicyObject::KIND;
        let read = read_live::<AuthorizationPolicyObject>(kind, document);
        let problems: Vec<_> = read.problems.iter().map(ToString::to_string).collect();
        (read.object.unwrap().policy(), problems)
    };
    let (policy, problems) = read(json!({ "weft.dev/dry-run": "true" }));
    assert!(policy.is_dry_run && problems.is_empty());
    for (key, value) in [("weft.dev/dry-run", "yes"), ("weft.dev/dryrun", "true")] {
        let (policy, problems) = read(json!({ key: value }));
        assert!(!policy.is_dry_run);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains(key), "{problems:?}");
    }
}

/// Nobody knows whom it was to keep out.
#[test]
fn one_that_can_not_be_read_denies_what_it_selects_unless_it_said_something_before() {
    let labels = json!({ "matchLabels": { "app": "web" } });
    let bad =
        || object(json!({ "selector": labels, "rules": [{ "from": [{ "claims": ["a"] }] }] }));
    let policy = bad().policy();
    assert_eq!(policy.action, Action::Deny);
    assert_eq!(policy.rules, [Rule::default()]);
    let PolicyTarget::Pods(selector) = bad().target else {
        panic!("it selects pods")
    };
    assert_eq!(selector.to_string(), "app=web");

    let good = object(json!({ "rules": [{}] }));
    let mut now = bad();
    now.keep_last_good(&good);
    assert_eq!(now.policy(), good.policy());
    assert_eq!(now.target, good.target);
    // For as long as it takes.
    let mut later = bad();
    later.keep_last_good(&now);
    assert_eq!(later.policy(), good.policy());

    let audit = object(json!({ "action": "AUDIT", "rules": [{ "if": 1 }] }));
    assert_eq!(
        audit.policy().action,
        Action::Audit,
        "it would have denied nothing"
    );
    let newer = object(json!({ "action": "CUSTOM" }));
    assert_eq!(newer.policy().action, Action::Deny);
}
