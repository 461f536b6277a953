use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;

use super::*;

fn values<T: Clone + std::fmt::Debug + 'static>(
    one: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Values<T>> {
    let some = || prop::collection::vec(one.clone(), 0..3);
    (some(), some()).prop_map(|(any_of, none_of)| Values { any_of, none_of })
}

fn parsed<T>(texts: &'static [&'static str]) -> impl Strategy<Value = T> + Clone
where
    T: FromStr<Err: std::fmt::Debug> + Clone + std::fmt::Debug,
{
    select(texts).prop_map(|text| text.parse().unwrap())
}

const TEXTS: &[&str] = &["*", "a", "a*", "*a", "GET"];
const PATHS: &[&str] = &[
    "*", "/", "/a", "/a/*", "*.png", "/{*}/b", "/a/{**}", "/a%20b",
];
const PRINCIPALS: &[&str] = &["*", "cluster.local/ns/a/sa/b", "*/sa/b", "cluster.local/*"];
const BLOCKS: &[&str] = &["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"];

fn any_source() -> impl Strategy<Value = SourceMatch> {
    let account = ("[a-z]{1,5}", "[a-z]{1,5}").prop_map(|(namespace, name)| ServiceAccount {
        namespace: namespace.into(),
        name: name.into(),
    });
    (
        values(parsed(PRINCIPALS)),
        values(account),
        values(parsed(TEXTS)),
        values(parsed(BLOCKS)),
        any::<bool>(),
    )
        .prop_map(
            |(principals, service_accounts, namespaces, addresses, unknown)| SourceMatch {
                principals,
                service_accounts,
                namespaces,
                addresses,
                has_unknown_attribute: unknown,
            },
        )
}

fn any_operation() -> impl Strategy<Value = OperationMatch> {
    let part = || prop::option::of("[a-z.]{1,6}");
    let grpc = (part(), part()).prop_map(|(service, method)| GrpcMethod {
        service: service.map(Into::into),
        method: method.map(Into::into),
    });
    (
        values(1u16..),
        values(parsed(TEXTS)),
        values(parsed(PATHS)),
        values(parsed(TEXTS)),
        values(grpc),
        any::<bool>(),
    )
        .prop_map(
            |(ports, methods, paths, hosts, grpc, unknown)| OperationMatch {
                ports,
                methods,
                paths,
                hosts,
                grpc,
                has_unknown_attribute: unknown,
            },
        )
}

fn any_policy() -> impl Strategy<Value = AuthorizationPolicy> {
    let header = (select(&["x-role", "accept"][..]), values(parsed(TEXTS)));
    // One without values can't be told from one whose values aren't known.
    let header = header.prop_filter_map("no values", |(name, values)| {
        let name = HeaderName::from_static(name);
        (!values.is_empty()).then_some(HeaderMatch { name, values })
    });
    let rule = (
        prop::collection::vec(any_source(), 0..3),
        prop::collection::vec(any_operation(), 0..3),
        prop::collection::vec(header, 0..3),
        any::<bool>(),
    );
    let rule = rule.prop_map(|(from, to, when, has_unknown_part)| Rule {
        from,
        to,
        when,
        has_unknown_part,
    });
    (
        "[a-z]{1,8}",
        select(&[Action::Allow, Action::Deny, Action::Audit][..]),
        any::<bool>(),
        prop::collection::vec(rule, 0..3),
    )
        .prop_map(|(name, action, is_dry_run, rules)| AuthorizationPolicy {
            key: NamespacedName::new("shop", &name),
            action,
            is_dry_run,
            rules,
        })
}

proptest! {
    #[test]
    fn a_policy_survives_the_wire(policy in any_policy()) {
        let bytes = v1::AuthorizationPolicy::from(&policy).encode_to_vec();
        let message = v1::AuthorizationPolicy::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(AuthorizationPolicy::try_from(message), Ok(policy));
    }

    #[test]
    fn a_membership_survives_the_wire(
        names in prop::collection::btree_set("[a-z]{1,5}/[a-z]{1,5}", 0..4),
        default in select(DefaultAuthorization::ALL.to_vec()),
        is_observed_only in any::<bool>(),
    ) {
        let mut policies: Vec<NamespacedName> = names.iter().map(|name| name.parse().unwrap()).collect();
        policies.sort();
        let own = AuthorizationMembership { policies, default, is_observed_only };
        prop_assert_eq!(membership(membership_message(&own)), own);
    }
}

fn policy(action: i32, rules: Vec<v1::AuthorizationRule>) -> AuthorizationPolicy {
    let message = v1::AuthorizationPolicy {
        namespace: "shop".into(),
        name: "web".into(),
        action,
        dry_run: false,
        rules,
    };
    message.try_into().unwrap()
}

#[test]
fn an_action_that_is_not_known_denies_everything() {
    for action in [0, 99] {
        let policy = policy(action, vec![]);
        assert_eq!(policy.action, Action::Deny);
        assert_eq!(policy.rules, [Rule::default()]);
    }
}

#[test]
fn a_default_that_is_not_known_denies() {
    for default in [0, 99] {
        let message = v1::AuthorizationMembership {
            policies: vec!["nonsense".into()],
            default,
            observed_only: false,
        };
        let membership = membership(Some(message));
        assert_eq!(membership.default, DefaultAuthorization::Deny);
        assert_eq!(membership.policies.len(), 1, "its rules never arrive");
    }
    assert_eq!(membership(None), AuthorizationMembership::default());
}

/// A part that was left away would make an ALLOW rule wider.
#[test]
fn a_part_that_is_not_known_or_can_not_be_read_is_kept_as_unknown() {
    let text = |text: &str| v1::TextValues {
        any_of: vec![text.to_owned()],
        none_of: vec![],
    };
    let header = |name: &str, values| {
        let name = name.to_owned();
        Some(Condition::Header(v1::HeaderCondition { name, values }))
    };
    for condition in [
        None,
        header("no name", Some(text("a"))),
        header("host", Some(text("a"))),
        header("x-role", Some(text("a*b"))),
        header("x-role", None),
    ] {
        let rule = v1::AuthorizationRule {
            when: vec![v1::AuthorizationCondition { condition }],
            ..v1::AuthorizationRule::default()
        };
        let policy = policy(1, vec![rule]);
        assert!(policy.rules[0].has_unknown_part);
    }
    for attribute in [
        None,
        Some(SourceAttribute::Principals(text("a*b"))),
        Some(SourceAttribute::Principals(v1::TextValues::default())),
        Some(SourceAttribute::ServiceAccounts(text("web"))),
        Some(SourceAttribute::Addresses(v1::AddressValues {
            any_of: vec![v1::PolicyNetwork::default()],
            none_of: vec![],
        })),
    ] {
        let source = source(v1::AuthorizationSource {
            attributes: vec![v1::SourceAttribute { attribute }],
        });
        assert!(source.has_unknown_attribute);
    }
    for attribute in [
        None,
        Some(OperationAttribute::Paths(text("/a//b"))),
        Some(OperationAttribute::Ports(v1::PortValues {
            any_of: vec![70_000],
            none_of: vec![],
        })),
    ] {
        let operation = operation(v1::AuthorizationOperation {
            attributes: vec![v1::OperationAttribute { attribute }],
        });
        assert!(operation.has_unknown_attribute);
    }
    let twice = source(v1::AuthorizationSource {
        attributes: ["a", "b"]
            .map(|namespace| v1::SourceAttribute {
                attribute: Some(SourceAttribute::Namespaces(text(namespace))),
            })
            .to_vec(),
    });
    assert!(twice.has_unknown_attribute);
}
