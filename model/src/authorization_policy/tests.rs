//! The decisions of [`AuthorizationPolicies`], one behaviour each; `plain` compares them with a
//! plain evaluation of the rules as they are documented.

mod plain;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::identity::SpiffeId;
use crate::name::NamespacedName;

const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// The policies of a workload of the namespace `shop`, with these rules under these names.
fn policies(
    default: DefaultAuthorization,
    policies: Vec<AuthorizationPolicy>,
) -> AuthorizationPolicies {
    let mut names: Vec<_> = policies.iter().map(|policy| policy.key.clone()).collect();
    names.sort();
    let membership = AuthorizationMembership {
        policies: names,
        default,
        is_observed_only: false,
    };
    AuthorizationPolicies::new(&id(SHOP), &membership, |name| {
        let policy = policies.iter().find(|policy| policy.key == *name);
        policy.cloned().map(Arc::new)
    })
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        key: NamespacedName::new("shop", name),
        action,
        is_dry_run: false,
        rules,
    }
}

fn one(action: Action, rule: Rule) -> AuthorizationPolicies {
    policies(
        DefaultAuthorization::AllowAll,
        vec![policy("one", action, vec![rule])],
    )
}

fn from(source: SourceMatch) -> Rule {
    Rule {
        from: vec![source],
        ..Rule::default()
    }
}

fn to(operation: OperationMatch) -> Rule {
    Rule {
        to: vec![operation],
        ..Rule::default()
    }
}

fn principals(values: Values<&str>) -> Rule {
    let parse = |texts: Vec<&str>| texts.iter().map(|text| text.parse().unwrap()).collect();
    from(SourceMatch {
        principals: Values {
            any_of: parse(values.any_of),
            none_of: parse(values.none_of),
        },
        ..SourceMatch::default()
    })
}

fn paths(values: &[&str]) -> Rule {
    to(OperationMatch {
        paths: Values::any_of(values.iter().map(|path| path.parse().unwrap())),
        ..OperationMatch::default()
    })
}

fn connect(policies: &AuthorizationPolicies, client: Option<&str>) -> Decision {
    let identity = client.map(id);
    let source = Source {
        identity: identity.as_ref(),
        address: "10.0.0.7".parse().unwrap(),
    };
    policies.connection(&source, 80).decision
}

/// The decision on a request of a client of the namespace `shop`.
fn request(
    policies: &AuthorizationPolicies,
    method: &str,
    path: &str,
    host: Option<&str>,
    headers: &[(&str, &str)],
) -> Decision {
    let identity = id("spiffe://cluster.local/ns/shop/sa/cart");
    let source = Source {
        identity: Some(&identity),
        address: "10.0.0.7".parse().unwrap(),
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let attributes = RequestAttributes {
        method,
        path,
        host,
        headers: &map,
    };
    policies.request(&source, 80, &attributes).decision
}

fn get(policies: &AuthorizationPolicies, path: &str) -> Decision {
    request(policies, "GET", path, Some("web.shop"), &[])
}

use Decision::{Allowed, Denied, DependsOnRequest};

#[test]
fn an_allow_policy_without_rules_denies_everything_and_a_deny_policy_without_rules_nothing() {
    let only = |action| {
        policies(
            DefaultAuthorization::AllowAll,
            vec![policy("one", action, vec![])],
        )
    };
    assert_eq!(connect(&only(Action::Allow), Some(SHOP)), Denied);
    assert_eq!(connect(&only(Action::Deny), Some(SHOP)), Allowed);
}

#[test]
fn a_rule_without_parts_matches_everything() {
    assert_eq!(connect(&one(Action::Allow, Rule::default()), None), Allowed);
    assert_eq!(connect(&one(Action::Deny, Rule::default()), None), Denied);
}

#[test]
fn deny_comes_before_allow() {
    let both = policies(
        DefaultAuthorization::AllowAll,
        vec![
            policy("a-allow", Action::Allow, vec![Rule::default()]),
            policy(
                "b-deny",
                Action::Deny,
                vec![
                    principals(Values::any_of(["*/sa/cart"])),
                    principals(Values::any_of(["*/sa/db"])),
                ],
            ),
        ],
    );
    let identity = id("spiffe://cluster.local/ns/shop/sa/db");
    let source = Source {
        identity: Some(&identity),
        address: "10.0.0.7".parse().unwrap(),
    };
    let verdict = both.connection(&source, 80);
    assert_eq!(verdict.decision, Denied);
    assert_eq!(verdict.policy().unwrap().to_string(), "shop/b-deny");
    assert_eq!(verdict.rule(), Some(1));
    assert!(verdict.ends_connections());
    assert_eq!(connect(&both, Some(SHOP)), Allowed);
}

#[test]
fn defaults_hold_where_no_allow_policy_selects_the_workload() {
    let own = "spiffe://cluster.local/ns/shop/sa/cart";
    let other = "spiffe://cluster.local/ns/bank/sa/cart";
    let foreign = "spiffe://elsewhere/ns/shop/sa/cart";
    for (default, expected) in [
        (DefaultAuthorization::AllowAll, [true, true, true, true]),
        (
            DefaultAuthorization::Authenticated,
            [true, true, false, false],
        ),
        (
            DefaultAuthorization::SameNamespace,
            [true, false, false, false],
        ),
        (DefaultAuthorization::Deny, [false; 4]),
    ] {
        let none = policies(default, vec![]);
        assert_eq!(none.is_empty(), default == DefaultAuthorization::AllowAll);
        let deny = policies(default, vec![policy("deny", Action::Deny, vec![])]);
        let allow = policies(
            default,
            vec![policy("allow", Action::Allow, vec![Rule::default()])],
        );
        let clients = [Some(own), Some(other), Some(foreign), None];
        for (client, expected) in clients.into_iter().zip(expected) {
            let expected = if expected { Allowed } else { Denied };
            assert_eq!(connect(&none, client), expected, "{default} {client:?}");
            assert_eq!(connect(&deny, client), expected, "{default} {client:?}");
            assert_eq!(connect(&allow, client), Allowed, "{default} {client:?}");
        }
    }
}

#[test]
fn an_identity_that_is_not_proven_is_taken_against_the_client() {
    let cart = Values::any_of(["*/sa/cart"]);
    let not_cart = Values::none_of(["*/sa/cart"]);
    for values in [cart, not_cart] {
        let rule = principals(values);
        assert_eq!(connect(&one(Action::Allow, rule.clone()), None), Denied);
        assert_eq!(connect(&one(Action::Deny, rule), None), Denied);
    }
}

#[test]
fn that_there_is_no_identity_is_known() {
    let any = principals(Values::any_of(["*"]));
    let none = principals(Values::none_of(["*"]));
    for (rule, has_identity) in [(any, true), (none, false)] {
        for client in [Some(SHOP), None] {
            let matches = client.is_some() == has_identity;
            let (allow, deny) = match matches {
                true => (Allowed, Denied),
                false => (Denied, Allowed),
            };
            assert_eq!(connect(&one(Action::Allow, rule.clone()), client), allow);
            assert_eq!(connect(&one(Action::Deny, rule.clone()), client), deny);
        }
    }
}

#[test]
fn namespaces_and_service_accounts_are_of_the_own_trust_domain() {
    let namespace = from(SourceMatch {
        namespaces: Values::any_of(["shop".parse().unwrap()]),
        ..SourceMatch::default()
    });
    let account = from(SourceMatch {
        service_accounts: Values::any_of([ServiceAccount {
            namespace: "shop".into(),
            name: "cart".into(),
        }]),
        ..SourceMatch::default()
    });
    for rule in [namespace, account] {
        let allow = one(Action::Allow, rule);
        let cart = "ns/shop/sa/cart";
        let own = format!("spiffe://cluster.local/{cart}");
        let foreign = format!("spiffe://elsewhere/{cart}");
        assert_eq!(connect(&allow, Some(&own)), Allowed);
        assert_eq!(connect(&allow, Some(&foreign)), Denied);
        let other = "spiffe://cluster.local/ns/shop-2/sa/cart";
        assert_eq!(connect(&allow, Some(other)), Denied);
    }
}

#[test]
fn an_http_part_makes_a_connection_depend_on_its_requests_and_without_them_it_is_denied() {
    for (action, get_allowed) in [(Action::Allow, true), (Action::Deny, false)] {
        let policies = one(action, paths(&["/cart"]));
        let source = Source {
            identity: None,
            address: "10.0.0.7".parse().unwrap(),
        };
        let verdict = policies.connection(&source, 80);
        assert_eq!(verdict.decision, DependsOnRequest, "{action:?}");
        assert_eq!(verdict.policy().unwrap().to_string(), "shop/one");
        assert_eq!(verdict.without_requests().decision, Denied, "{action:?}");
        let is_allowed = get(&policies, "/cart") == Allowed;
        assert_eq!(is_allowed, get_allowed, "{action:?}");
    }
}

#[test]
fn a_rule_for_another_port_leaves_a_connection_alone() {
    let mut rule = paths(&["/cart"]);
    rule.to[0].ports = Values::any_of([8080]);
    let deny = one(Action::Deny, rule);
    assert_eq!(connect(&deny, None), Allowed);
    assert_eq!(get(&deny, "/cart"), Allowed);
}

#[test]
fn every_reading_of_a_path_is_decided_and_the_worst_counts() {
    let deny = one(Action::Deny, paths(&["/admin", "/admin/*"]));
    for path in [
        "/admin",
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/admin%2fx",
        "/admin%5cx",
        "/admin\\x",
        "/admin;v=1",
        "/admin;v=1/x",
        "/x/..;/admin",
        "/x/%2e%2e/admin",
        "/x%2f..%2fadmin",
        "/admin%00.html",
    ] {
        assert_eq!(get(&deny, path), Denied, "{path}");
    }
    assert_eq!(get(&deny, "/administrator"), Allowed);
    assert_eq!(get(&deny, "/cart;admin"), Allowed);
    let allow = one(Action::Allow, paths(&["/public/*"]));
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public/..;/admin",
        "/public\\..\\admin",
        "/public;x",
        "/publicity",
        "*",
        "",
    ] {
        assert_eq!(get(&allow, path), Denied, "{path}");
    }
    for path in ["/public/", "/public/a%20b", "/public//a", "/public/a;v=1"] {
        assert_eq!(get(&allow, path), Allowed, "{path}");
    }
}

#[test]
fn a_path_that_is_encoded_otherwise_is_the_same() {
    let deny = one(Action::Deny, paths(&["/users/@me", "/caf%c3%a9"]));
    for path in ["/users/@me", "/users/%40me", "/caf%C3%A9", "/caf%c3%a9"] {
        assert_eq!(get(&deny, path), Denied, "{path}");
    }
    assert_eq!(get(&deny, "/users/%2540me"), Allowed);
}

#[test]
fn what_follows_a_connect_is_not_decided_by_its_head() {
    let path = || "/admin*".parse().unwrap();
    let operation = |operation| one(Action::Deny, to(operation));
    let deny = operation(OperationMatch {
        paths: Values::any_of([path()]),
        ..OperationMatch::default()
    });
    assert_eq!(get(&deny, "/"), Allowed);
    assert_eq!(request(&deny, "CONNECT", "", Some("web.shop"), &[]), Denied);
    let allow = one(
        Action::Allow,
        to(OperationMatch {
            paths: Values::none_of([path()]),
            ..OperationMatch::default()
        }),
    );
    assert_eq!(get(&allow, "/"), Allowed);
    assert_eq!(
        request(&allow, "CONNECT", "", Some("web.shop"), &[]),
        Denied
    );
    // Where nothing asks for requests, nothing is hidden.
    let ports = operation(OperationMatch {
        ports: Values::any_of([81]),
        ..OperationMatch::default()
    });
    assert_eq!(
        request(&ports, "CONNECT", "", Some("web.shop"), &[]),
        Allowed
    );
}

#[test]
fn a_method_in_another_case_is_taken_against_the_client() {
    let methods = |values| {
        to(OperationMatch {
            methods: values,
            ..OperationMatch::default()
        })
    };
    let delete = || ["DELETE".parse().unwrap()];
    let of =
        |action, values, method| request(&one(action, methods(values)), method, "/", None, &[]);
    for method in ["DELETE", "delete", "Delete"] {
        let any_of = Values::any_of(delete());
        assert_eq!(of(Action::Deny, any_of, method), Denied, "{method}");
        let none_of = Values::none_of(delete());
        assert_eq!(of(Action::Allow, none_of, method), Denied, "{method}");
    }
    assert_eq!(
        of(Action::Allow, Values::any_of(delete()), "delete"),
        Denied
    );
    assert_eq!(
        of(Action::Allow, Values::any_of(delete()), "DELETE"),
        Allowed
    );
    assert_eq!(of(Action::Deny, Values::any_of(delete()), "GET"), Allowed);
}

#[test]
fn a_request_without_host_is_taken_against_the_client() {
    let hosts = |values| {
        to(OperationMatch {
            hosts: values,
            ..OperationMatch::default()
        })
    };
    let internal = || ["*.internal".parse().unwrap()];
    let of = |action, values, host| request(&one(action, hosts(values)), "GET", "/", host, &[]);
    for values in [Values::any_of(internal()), Values::none_of(internal())] {
        assert_eq!(of(Action::Allow, values.clone(), None), Denied);
        assert_eq!(of(Action::Deny, values, None), Denied);
    }
    let host = Some("a.internal");
    assert_eq!(of(Action::Allow, Values::any_of(internal()), host), Allowed);
    let host = Some("internal");
    assert_eq!(of(Action::Allow, Values::any_of(internal()), host), Denied);
}

#[test]
fn a_header_that_came_with_several_values_is_taken_against_the_client() {
    let header = |values| Rule {
        when: vec![HeaderMatch {
            name: HeaderName::from_static("x-role"),
            values,
        }],
        ..Rule::default()
    };
    let admin = || ["admin".parse().unwrap()];
    let of = |action, values, headers: &[(&str, &str)]| {
        request(&one(action, header(values)), "GET", "/", None, headers)
    };
    for headers in [
        &[("x-role", "admin"), ("x-role", "user")][..],
        &[("X-Role", "user"), ("x-role", "admin")],
        &[("x-role", "user, admin")],
    ] {
        for values in [Values::any_of(admin()), Values::none_of(admin())] {
            let of = |action| of(action, values.clone(), headers);
            assert_eq!(of(Action::Allow), Denied, "{headers:?}");
            assert_eq!(of(Action::Deny), Denied, "{headers:?}");
        }
    }
    let twice = &[("x-role", "admin"), ("x-role", "admin")];
    assert_eq!(of(Action::Allow, Values::any_of(admin()), twice), Allowed);
    assert_eq!(of(Action::Allow, Values::any_of(admin()), &[]), Denied);
    assert_eq!(of(Action::Allow, Values::none_of(admin()), &[]), Allowed);
    let any = || [TextPattern::Any];
    assert_eq!(of(Action::Allow, Values::any_of(any()), &[]), Denied);
    assert_eq!(of(Action::Allow, Values::any_of(any()), twice), Allowed);
    assert_eq!(of(Action::Allow, Values::none_of(any()), twice), Denied);
}

#[test]
fn a_header_whose_name_some_servers_take_for_another_is_taken_against_the_client() {
    let header = |name, values| Rule {
        when: vec![HeaderMatch {
            name: HeaderName::from_static(name),
            values,
        }],
        ..Rule::default()
    };
    let tenant = || ["a".parse().unwrap()];
    let of = |action, name, values, headers: &[(&str, &str)]| {
        request(
            &one(action, header(name, values)),
            "GET",
            "/",
            None,
            headers,
        )
    };
    for (name, other) in [
        ("x-tenant", "x_tenant"),
        ("x_tenant", "x-tenant"),
        ("x-tenant", "X.Tenant"),
    ] {
        for headers in [
            &[(other, "a")][..],
            &[(name, "b"), (other, "a")],
            &[(other, "b"), (name, "a")],
        ] {
            for values in [Values::any_of(tenant()), Values::none_of(tenant())] {
                let of = |action| of(action, name, values.clone(), headers);
                assert_eq!(of(Action::Allow), Denied, "{name} {headers:?}");
                assert_eq!(of(Action::Deny), Denied, "{name} {headers:?}");
            }
        }
        // Whichever a server takes, it is the same.
        let of = |values, headers: &[(&str, &str)]| of(Action::Allow, name, values, headers);
        let both = &[(name, "a"), (other, "a")];
        assert_eq!(of(Values::any_of(tenant()), both), Allowed);
        assert_eq!(of(Values::none_of(tenant()), &[(other, "b")]), Allowed);
        // That it is there at all.
        let any = [TextPattern::Any];
        assert_eq!(of(Values::any_of(any), &[(other, "b")]), Denied);
    }
    let unlike = &[("xtenant", "a"), ("x-tenants", "a"), ("x0tenant", "a")];
    let of = |action| of(action, "x-tenant", Values::any_of(tenant()), unlike);
    assert_eq!(of(Action::Allow), Denied);
    assert_eq!(of(Action::Deny), Allowed);
}

#[test]
fn a_grpc_method_is_the_path_of_its_requests() {
    let grpc = |service: Option<&str>, method: Option<&str>| {
        let method = GrpcMethod {
            service: service.map(Into::into),
            method: method.map(Into::into),
        };
        one(
            Action::Allow,
            to(OperationMatch {
                grpc: Values::any_of([method]),
                ..OperationMatch::default()
            }),
        )
    };
    let get_user = grpc(Some("users.v1.Users"), Some("Get"));
    assert_eq!(get(&get_user, "/users.v1.Users/Get"), Allowed);
    for path in [
        "/users.v1.Users/Delete",
        "/users.v1.Users/Get/",
        "/x/users.v1.Users/Get",
        "/users.v1.Users",
    ] {
        assert_eq!(get(&get_user, path), Denied, "{path}");
    }
    let users = grpc(Some("users.v1.Users"), None);
    assert_eq!(get(&users, "/users.v1.Users/Delete"), Allowed);
    assert_eq!(get(&users, "/orders.v1.Orders/Get"), Denied);
}

#[test]
fn what_this_version_does_not_know_is_taken_against_the_client() {
    let rules = [
        Rule {
            has_unknown_part: true,
            ..Rule::default()
        },
        from(SourceMatch {
            has_unknown_attribute: true,
            ..SourceMatch::default()
        }),
        to(OperationMatch {
            has_unknown_attribute: true,
            ..OperationMatch::default()
        }),
    ];
    for rule in rules {
        assert_eq!(
            connect(&one(Action::Allow, rule.clone()), Some(SHOP)),
            Denied
        );
        assert_eq!(
            connect(&one(Action::Deny, rule.clone()), Some(SHOP)),
            Denied
        );
        assert_eq!(get(&one(Action::Allow, rule), "/"), Denied);
    }
}

#[test]
fn audit_and_dry_run_change_no_decision_and_are_named() {
    let dry_run = |policy| AuthorizationPolicy {
        is_dry_run: true,
        ..policy
    };
    let policies = policies(
        DefaultAuthorization::AllowAll,
        vec![
            policy("audit", Action::Audit, vec![Rule::default()]),
            dry_run(policy("deny", Action::Deny, vec![Rule::default()])),
            dry_run(policy("allow", Action::Allow, vec![])),
        ],
    );
    assert!(!policies.is_empty());
    let source = Source {
        identity: None,
        address: "10.0.0.7".parse().unwrap(),
    };
    let verdict = policies.connection(&source, 80);
    assert_eq!(verdict.decision, Allowed);
    let default = Reason::Default(DefaultAuthorization::AllowAll);
    assert_eq!(verdict.reason, default);
    let deny = NamespacedName::new("shop", "deny");
    let expected = DryRun {
        decision: Denied,
        reason: Reason::Rule {
            policy: &deny,
            rule: 0,
        },
    };
    assert_eq!(verdict.dry_run, Some(expected));
    let audit = NamespacedName::new("shop", "audit");
    let expected = AuditedRule {
        policy: &audit,
        rule: 0,
    };
    assert_eq!(verdict.audited, [expected]);
}

#[test]
fn a_policy_that_has_not_arrived_denies_unless_a_rule_does() {
    let membership = AuthorizationMembership {
        policies: vec![
            NamespacedName::new("shop", "deny"),
            NamespacedName::new("shop", "later"),
        ],
        ..AuthorizationMembership::default()
    };
    let deny = policy(
        "deny",
        Action::Deny,
        vec![principals(Values::any_of(["*/sa/db"]))],
    );
    let policies = AuthorizationPolicies::new(&id(SHOP), &membership, |name| {
        (*name == deny.key).then(|| Arc::new(deny.clone()))
    });
    for (client, ends) in [("cart", false), ("db", true)] {
        let client = id(&format!("spiffe://cluster.local/ns/shop/sa/{client}"));
        let source = Source {
            identity: Some(&client),
            address: "10.0.0.7".parse().unwrap(),
        };
        let verdict = policies.connection(&source, 80);
        assert_eq!(verdict.decision, Denied);
        assert_eq!(verdict.ends_connections(), ends);
    }
}

#[test]
fn an_index_of_many_rules_finds_the_first_that_matches() {
    let rules = |n: usize| {
        let mut rule = principals(Values::any_of([format!("*/ns/ns-{n}/sa/x").as_str()]));
        rule.to = paths(&[&format!("/{n}/*"), &format!("/exact-{n}")]).to;
        vec![
            rule,
            Rule {
                from: principals(Values::any_of([
                    format!("cluster.local/ns/ns-{n}/sa/x").as_str()
                ]))
                .from,
                to: paths(&[&format!("/{n}/{{**}}/end")]).to,
                ..Rule::default()
            },
        ]
    };
    let all = (0..1000).map(|n| policy(&format!("p-{n:04}"), Action::Allow, rules(n)));
    let policies = policies(DefaultAuthorization::AllowAll, all.collect());
    let headers = HeaderMap::new();
    for n in [0, 17, 999] {
        let identity = id(&format!("spiffe://cluster.local/ns/ns-{n}/sa/x"));
        let source = Source {
            identity: Some(&identity),
            address: "10.0.0.7".parse().unwrap(),
        };
        let of = |path: &str| {
            let attributes = RequestAttributes {
                method: "GET",
                path,
                host: None,
                headers: &headers,
            };
            let verdict = policies.request(&source, 80, &attributes);
            let policy = verdict.policy().map(|policy| policy.name.to_string());
            policy.map(|policy| (policy, verdict.rule().unwrap()))
        };
        let name = format!("p-{n:04}");
        assert_eq!(of(&format!("/{n}/a")), Some((name.clone(), 0)));
        assert_eq!(of(&format!("/exact-{n}")), Some((name.clone(), 0)));
        assert_eq!(of(&format!("/{n}/a/end")), Some((name, 0)));
        assert_eq!(of("/other"), None);
        assert_eq!(of(&format!("/{}/a", n + 1)), None);
    }
}
