use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;
use weft_model::request_authentication::{
    ClaimHeader, JsonWebKey, JwtProvider, PublicKey, RequestAuthentication, SignatureAlgorithm,
    TokenLocation,
};

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
        values(parsed(TEXTS)),
        any::<bool>(),
    )
        .prop_map(
            |(principals, service_accounts, namespaces, addresses, request_principals, unknown)| {
                SourceMatch {
                    principals,
                    service_accounts,
                    namespaces,
                    addresses,
                    request_principals,
                    has_unknown_attribute: unknown,
                }
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
    let claim = (any_claim(), values(parsed(TEXTS)));
    let claim = claim.prop_filter_map("no values", |(claim, values)| {
        (!values.is_empty()).then_some(ClaimMatch { claim, values })
    });
    let rule = (
        prop::collection::vec(any_source(), 0..3),
        prop::collection::vec(any_operation(), 0..3),
        prop::collection::vec(header, 0..3),
        prop::collection::vec(claim, 0..3),
        any::<bool>(),
    );
    let rule = rule.prop_map(|(from, to, when, claims, has_unknown_part)| Rule {
        from,
        to,
        when,
        claims,
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
            authentication: None,
        })
}

fn any_claim() -> impl Strategy<Value = ClaimPath> {
    let names = prop::collection::vec("[a-z:/.]{1,5}", 1..4);
    names.prop_map(|names| ClaimPath::new(names).unwrap())
}

fn any_key() -> impl Strategy<Value = JsonWebKey> {
    let bytes = |length: usize| prop::collection::vec(any::<u8>(), length);
    let point = |bytes: Vec<u8>| [&[4][..], &bytes].concat().into();
    let key = prop_oneof![
        (bytes(255), 1u8..).prop_map(|(modulus, first)| PublicKey::Rsa {
            modulus: [&[first][..], &modulus].concat().into(),
            exponent: vec![1, 0, 1].into(),
        }),
        bytes(64).prop_map(move |bytes| PublicKey::P256(point(bytes))),
        bytes(96).prop_map(move |bytes| PublicKey::P384(point(bytes))),
        bytes(32).prop_map(|bytes| PublicKey::Ed25519(bytes.into())),
    ];
    let algorithm = prop::option::of(select(&SignatureAlgorithm::ALL[..]));
    (prop::option::of("[a-z]{1,4}"), algorithm, key).prop_map(|(id, algorithm, key)| JsonWebKey {
        id: id.map(Into::into),
        algorithm,
        key,
    })
}

fn any_authentication() -> impl Strategy<Value = AuthorizationPolicy> {
    let name = || select(&["x-jwt-a", "x_jwt_b"][..]).prop_map(HeaderName::from_static);
    let location = prop_oneof![
        (name(), "[A-Za-z ]{0,6}").prop_map(|(name, prefix)| TokenLocation::Header {
            name,
            prefix: prefix.into(),
        }),
        "[a-z]{1,4}".prop_map(|name| TokenLocation::Cookie(name.into())),
        "[a-z]{1,4}".prop_map(|name| TokenLocation::Query(name.into())),
    ];
    let header = (name(), any_claim()).prop_map(|(name, claim)| ClaimHeader { name, claim });
    let provider = (
        "[a-z:/]{1,8}",
        prop::collection::vec("[a-z]{1,4}", 0..3),
        prop::sample::subsequence(SignatureAlgorithm::ALL.to_vec(), 0..=3),
        (
            prop::collection::vec(any_key(), 0..3),
            prop::option::of("[a-z:/]{1,8}"),
        ),
        prop::collection::vec(location, 0..3),
        any::<bool>(),
        prop::collection::vec(header, 0..3),
        prop::option::of(name()),
    );
    let provider = provider.prop_map(
        |(
            issuer,
            audiences,
            algorithms,
            (keys, key_source),
            locations,
            forwards,
            claim_headers,
            payload,
        )| {
            Arc::new(JwtProvider {
                issuer: issuer.into(),
                audiences: audiences.into_iter().map(Into::into).collect(),
                algorithms,
                keys,
                key_source: key_source.map(Into::into),
                locations,
                forwards_token: forwards,
                claim_headers,
                payload_header: payload,
            })
        },
    );
    let ports = prop::collection::vec(1u16.., 0..3);
    (ports, prop::collection::vec(provider, 0..3)).prop_map(|(ports, providers)| {
        AuthorizationPolicy {
            key: NamespacedName::new("shop", "RequestAuthentication:jwt"),
            action: Action::Authenticate,
            is_dry_run: false,
            rules: vec![],
            authentication: Some(RequestAuthentication { ports, providers }),
        }
    })
}

proptest! {
    #[test]
    fn a_policy_survives_the_wire(policy in prop_oneof![any_policy(), any_authentication()]) {
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
        authentication: None,
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
fn a_claim_that_can_not_be_read_is_kept_as_unknown() {
    let text = |text: &str| {
        Some(v1::TextValues {
            any_of: vec![text.to_owned()],
            none_of: vec![],
        })
    };
    for (claim, values, is_known) in [
        (vec!["groups"], text("a"), true),
        (vec![], text("a"), false),
        (vec![""], text("a"), false),
        (vec!["groups"], text("a*b"), false),
        (vec!["groups"], None, false),
    ] {
        let claim = claim.into_iter().map(str::to_owned).collect();
        let condition = Some(Condition::Claim(v1::ClaimCondition { claim, values }));
        let rule = v1::AuthorizationRule {
            when: vec![v1::AuthorizationCondition { condition }],
            ..v1::AuthorizationRule::default()
        };
        let policy = policy(1, vec![rule]);
        assert_eq!(policy.rules[0].has_unknown_part, !is_known);
        assert_eq!(policy.rules[0].claims.len(), usize::from(is_known));
    }
}

/// What an agent that doesn't know RequestAuthentications does with one, and this one with what
/// it can't read of them.
#[test]
fn an_authentication_that_can_not_be_read_denies_everything() {
    let provider = || v1::JwtProvider {
        issuer: "https://issuer.example".into(),
        ..v1::JwtProvider::default()
    };
    let with = |change: &dyn Fn(&mut v1::JwtProvider)| {
        let mut provider = provider();
        change(&mut provider);
        Some(v1::RequestAuthentication {
            ports: vec![],
            providers: vec![provider],
        })
    };
    let denying = [
        None,
        with(&|provider| provider.issuer.clear()),
        with(&|provider| provider.algorithms = vec!["HS256".into()]),
        with(&|provider| provider.locations = vec![v1::TokenLocation::default()]),
        with(&|provider| provider.payload_header = "no name".into()),
        with(&|provider| provider.claim_headers = vec![v1::ClaimHeader::default()]),
        Some(v1::RequestAuthentication {
            ports: vec![70_000],
            providers: vec![],
        }),
    ];
    let read = |authentication| {
        let message = v1::AuthorizationPolicy {
            namespace: "shop".into(),
            name: "jwt".into(),
            action: v1::AuthorizationAction::Authenticate.into(),
            dry_run: true,
            rules: vec![],
            authentication,
        };
        AuthorizationPolicy::try_from(message).unwrap()
    };
    for authentication in denying {
        let policy = read(authentication);
        assert_eq!(policy.action, Action::Deny);
        assert_eq!(policy.rules, [Rule::default()]);
    }
    let ignored = read(with(&|provider| {
        provider.algorithms = vec!["RS256".into(), "HS256".into()];
        provider.keys = vec![v1::JsonWebKey::default()];
    }));
    let authentication = ignored.authentication.unwrap();
    let provider = &authentication.providers[0];
    assert_eq!(provider.algorithms, [SignatureAlgorithm::Rs256]);
    assert!(provider.keys.is_empty());
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
