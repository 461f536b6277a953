//! What one decision of AuthorizationPolicies about a request costs, for a workload that few or many
//! select. The policy that decides is the last of them.
//!
//! ```sh
//! cargo bench --package weft-model --bench authorization_decision
//! ```
//!
//! Instructions, which don't depend on who else uses the machine: with the program that this names,
//! `valgrind --tool=callgrind --toggle-collect='*decide*' PROGRAM POLICIES claims|plain allowed|denied`
//! counts those of [`DECISIONS`].

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use weft_model::authorization_policy::{
    Action, AuthorizationMembership, AuthorizationPolicies, AuthorizationPolicy, ClaimMatch,
    Decision, OperationMatch, RequestAttributes, Rule, ServiceAccount, Source, SourceMatch, Values,
};
use weft_model::request_authentication::{
    ClaimPath, ClaimValue, Claims, JwtProvider, RequestAuthentication,
};
use weft_model::{NamespacedName, SpiffeId};

/// The decisions that are made.
const DECISIONS: u32 = 1000;

/// A policy that lets one ServiceAccount read what is below one path, and with claims those with a
/// role alone.
fn policy(number: usize, has_claims: bool) -> AuthorizationPolicy {
    let account = ServiceAccount {
        namespace: "shop".into(),
        name: format!("client-{number}").into(),
    };
    let role = ClaimMatch {
        claim: ClaimPath::new(["realm", "roles"]).unwrap(),
        values: Values::any_of([format!("role-{number}").parse().unwrap()]),
    };
    AuthorizationPolicy {
        key: NamespacedName::new("shop", &format!("allow-{number}")),
        action: Action::Allow,
        is_dry_run: false,
        rules: vec![Rule {
            from: vec![SourceMatch {
                service_accounts: Values::any_of([account]),
                ..SourceMatch::default()
            }],
            to: vec![OperationMatch {
                methods: Values::any_of(["GET".parse().unwrap()]),
                paths: Values::any_of([format!("/api/{number}/*").parse().unwrap()]),
                ..OperationMatch::default()
            }],
            claims: has_claims.then_some(role).into_iter().collect(),
            ..Rule::default()
        }],
        authentication: None,
    }
}

/// What has tokens verified: without it nobody may say what is in them.
fn authentication() -> AuthorizationPolicy {
    let provider = JwtProvider {
        issuer: "https://issuer.example".into(),
        audiences: vec![],
        algorithms: vec![],
        keys: vec![],
        key_source: None,
        locations: vec![],
        forwards_token: false,
        claim_headers: vec![],
        payload_header: None,
    };
    AuthorizationPolicy {
        key: NamespacedName::new("shop", "tokens"),
        action: Action::Authenticate,
        rules: vec![],
        authentication: Some(RequestAuthentication {
            ports: vec![],
            providers: vec![Arc::new(provider)],
        }),
        ..policy(0, false)
    }
}

fn compiled(count: usize, has_claims: bool) -> AuthorizationPolicies {
    let mut policies: Vec<_> = (0..count)
        .map(|number| Arc::new(policy(number, has_claims)))
        .collect();
    if has_claims {
        policies.push(Arc::new(authentication()));
    }
    let mut names: Vec<_> = policies.iter().map(|policy| policy.key.clone()).collect();
    names.sort();
    let membership = AuthorizationMembership {
        policies: names,
        ..AuthorizationMembership::default()
    };
    let server: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let find = |name: &NamespacedName| policies.iter().find(|policy| policy.key == *name).cloned();
    AuthorizationPolicies::new(&server, &membership, find)
}

#[inline(never)]
fn decide(
    policies: &AuthorizationPolicies,
    source: &Source<'_>,
    request: &RequestAttributes<'_>,
) -> Decision {
    policies.request(source, 8080, request).decision
}

/// Nanoseconds of one decision.
fn measure(count: usize, has_claims: bool, is_allowed: bool) -> f64 {
    let policies = compiled(count, has_claims);
    let last = count.saturating_sub(1);
    let identity = format!("spiffe://cluster.local/ns/shop/sa/client-{last}");
    let identity: SpiffeId = identity.parse().unwrap();
    let roles = ["staff".to_owned(), format!("role-{last}")];
    let roles = roles.map(|role| ClaimValue::Text(role.into()));
    let realm = ClaimValue::Object(vec![("roles".into(), ClaimValue::List(roles.into()))]);
    let claims = Claims::new(vec![("realm".into(), realm)]);
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    let source = Source {
        identity: Some(&identity),
        address: [10, 0, 0, 9].into(),
    };
    let path = match is_allowed {
        true => format!("/api/{last}/items/5"),
        false => "/elsewhere/items/5".to_owned(),
    };
    let request = RequestAttributes {
        method: "GET",
        path: &path,
        host: Some("web"),
        headers: &headers,
        claims: has_claims.then_some(&claims),
    };
    let expected = match is_allowed || count == 0 {
        true => Decision::Allowed,
        false => Decision::Denied,
    };
    let began = Instant::now();
    for _ in 0..DECISIONS {
        let decision = decide(
            black_box(&policies),
            black_box(&source),
            black_box(&request),
        );
        assert_eq!(decision, expected);
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(DECISIONS)
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let texts: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let [count, claims, verdict] = texts[..]
        && let Ok(count) = count.parse()
    {
        measure(count, claims == "claims", verdict == "allowed");
        return;
    }
    let program = std::env::current_exe().unwrap();
    println!("{}", program.display());
    for has_claims in [false, true] {
        for is_allowed in [true, false] {
            for count in [0, 1, 10, 1000] {
                let cost = measure(count, has_claims, is_allowed);
                let with = if has_claims { "claims" } else { "plain" };
                let verdict = if is_allowed { "allowed" } else { "denied" };
                println!("{count:5} policies, {with:6}, {verdict:7}: {cost:7.0} ns");
            }
        }
    }
}
