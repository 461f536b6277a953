//! AuthorizationPolicies: what one pattern lets in as ALLOW it keeps out as DENY, and a path that is
//! named as it is has no way around.
#![no_main]

use std::sync::Arc;

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use weft_model::NamespacedName;
use weft_model::authorization_policy::{
    Action, AuthorizationMembership, AuthorizationPolicies, AuthorizationPolicy, OperationMatch,
    PathPattern, RequestAttributes, Rule, Source, Values,
};

fuzz_target!(|input: (&str, &str)| {
    let (pattern, path) = input;
    let Ok(parsed) = pattern.parse::<PathPattern>() else { return };
    assert_eq!(parsed.to_string().parse::<PathPattern>().as_ref(), Ok(&parsed));
    let is_allowed = |action, path: &str| {
        let operation = OperationMatch {
            paths: Values::any_of([parsed.clone()]),
            ..OperationMatch::default()
        };
        let key = NamespacedName::new("shop", "p");
        let policy = Arc::new(AuthorizationPolicy {
            key: key.clone(),
            action,
            is_dry_run: false,
            rules: vec![Rule { to: vec![operation], ..Rule::default() }],
            authentication: None,
        });
        let selected = AuthorizationMembership {
            policies: vec![key],
            ..AuthorizationMembership::default()
        };
        let web = "spiffe://cluster.local/ns/shop/sa/web".parse().expect("an identity");
        let policies = AuthorizationPolicies::new(&web, &selected, |_| Some(Arc::clone(&policy)));
        let source = Source { identity: None, address: [10, 0, 0, 1].into() };
        let headers = HeaderMap::new();
        let request = RequestAttributes {
            method: "GET",
            path,
            host: None,
            headers: &headers,
            claims: None,
        };
        policies.request(&source, 80, &request).is_allowed()
    };
    assert!(!(is_allowed(Action::Allow, path) && is_allowed(Action::Deny, path)));
    if !pattern.contains(['*', '{']) {
        assert!(!is_allowed(Action::Deny, pattern));
    }
});
