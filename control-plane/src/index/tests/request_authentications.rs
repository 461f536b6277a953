//! RequestAuthentications among other objects.

use std::sync::Arc;

use weft_model::authorization_policy::{Action, AuthorizationPolicy};
use weft_model::request_authentication::{JsonWebKey, PublicKey};

use super::*;
use crate::kinds::{KeySource, KindObject, RequestAuthenticationObject};

const ADDRESS: &str = "https://issuer.example/keys";

fn authentication(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1alpha1\nkind: RequestAuthentication\n\
         metadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ {more} providers: [{{ issuer: https://issuer.example, jwksUri: '{ADDRESS}' }}] }}\n"
    )
}

fn published(bed: &Bed) -> Vec<AuthorizationPolicy> {
    let policies = bed.changes().into_iter().filter_map(|change| match change {
        Change::AuthorizationPolicy(policy) => Some(policy),
        _ => None,
    });
    policies.collect()
}

/// The number of keys of the one that agents are told of.
fn keys(bed: &Bed) -> usize {
    let policies = published(bed);
    let authentication = policies[0].authentication.as_ref().unwrap();
    authentication.providers[0].keys.len()
}

fn names(bed: &Bed) -> Vec<String> {
    let workloads = bed.workloads();
    let names = workloads[0].authorization.policies.iter();
    names.map(ToString::to_string).collect()
}

fn told(name: &str) -> NamespacedName {
    RequestAuthenticationObject::told_name(&NamespacedName::new("shop", name))
}

fn key(byte: u8) -> JsonWebKey {
    JsonWebKey {
        id: None,
        algorithm: None,
        key: PublicKey::Ed25519(vec![byte; 32].into()),
    }
}

#[test]
fn it_selects_and_is_told_as_an_authorization_policy_is_beside_one_of_its_name() {
    let policy = "---\napiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\n\
                  metadata: { name: jwt, namespace: shop }\nspec: {}\n";
    let selector = "selector: { matchLabels: { app: web } },";
    let mut bed = bed(&[
        ("a.yaml", &pod("web", "10.0.0.1", ENABLED)),
        ("p.yaml", policy),
        ("q.yaml", &authentication("jwt", selector)),
    ]);
    assert_eq!(names(&bed), ["shop/RequestAuthentication:jwt", "shop/jwt"]);
    let actions: Vec<_> = published(&bed).iter().map(|policy| policy.action).collect();
    assert!(actions.contains(&Action::Authenticate) && actions.contains(&Action::Allow));
    let status = bed.index.authorization_status(&told("jwt")).unwrap();
    assert_eq!((status.accepted, status.workloads), (true, 1));
    bed.delete("q.yaml", &authentication("jwt", selector));
    assert_eq!(names(&bed), ["shop/jwt"]);
    bed.apply(
        "q.yaml",
        &authentication("jwt", "targetRefs: [{ kind: Service, name: web }],"),
    );
    assert_eq!(names(&bed), ["shop/jwt"]);
    bed.apply("s.yaml", SERVICE);
    assert_eq!(names(&bed), ["shop/RequestAuthentication:jwt", "shop/jwt"]);
}

#[test]
fn keys_of_an_address_are_told_and_the_last_good_ones_stay() {
    let mut bed = bed(&[
        ("a.yaml", &pod("web", "10.0.0.1", ENABLED)),
        ("q.yaml", &authentication("jwt", "")),
    ]);
    let address = KeySource::Address(ADDRESS.into());
    let wanted = bed.index.key_sources();
    assert_eq!(wanted[&address], [Arc::from("shop")].into());
    assert_eq!(wanted.len(), 1);
    assert_eq!(keys(&bed), 0);
    assert!(bed.conflicts().is_empty(), "nobody has asked for them yet");
    bed.index
        .set_keys(&address, Err("the host answers 500".to_owned()));
    bed.settle();
    assert_eq!(keys(&bed), 0);
    let complaint = &bed.conflicts()[0];
    let expected = "RequestAuthentication shop/jwt: in force, but the keys at";
    assert!(complaint.contains(expected), "{complaint}");
    assert!(complaint.contains("the host answers 500"), "{complaint}");
    bed.index.set_keys(&address, Ok(vec![key(1), key(2)]));
    bed.settle();
    assert_eq!(keys(&bed), 2);
    assert!(bed.conflicts().is_empty());
    bed.index
        .set_keys(&address, Err("the host answers 500".to_owned()));
    bed.settle();
    assert_eq!(keys(&bed), 2);
    assert!(bed.conflicts().is_empty());
    bed.index.set_keys(&address, Ok(vec![key(3)]));
    bed.settle();
    assert_eq!(keys(&bed), 1);
    // Of an address that nobody names any more nothing is kept.
    bed.delete("q.yaml", &authentication("jwt", ""));
    bed.index.set_keys(&address, Ok(vec![key(4)]));
    assert!(bed.index.key_sources().is_empty());
    bed.apply("q.yaml", &authentication("jwt", ""));
    assert_eq!(keys(&bed), 0);
}

#[test]
fn a_port_that_carries_no_http_is_told_and_refused() {
    let tcp = "---\napiVersion: v1\nkind: Service\nmetadata: { name: db, namespace: shop }\n\
               spec: { clusterIP: 10.96.0.9, selector: { app: web }, \
               ports: [{ port: 5432, name: tcp-db }] }\n";
    let mut bed = bed(&[
        ("a.yaml", &pod("web", "10.0.0.1", ENABLED)),
        ("q.yaml", &authentication("jwt", "")),
    ]);
    let address = KeySource::Address(ADDRESS.into());
    bed.index.set_keys(&address, Ok(vec![key(1)]));
    bed.settle();
    assert!(bed.conflicts().is_empty());
    bed.apply("b.yaml", tcp);
    let complaint = &bed.conflicts()[0];
    assert!(
        complaint.contains("port 5432 of pod shop/web carries no HTTP"),
        "{complaint}"
    );
    let object = |ports: &str| {
        let text = authentication("new", ports);
        let value: serde_json::Value =
            serde_saphyr::from_str(text.trim_start_matches("---\n")).unwrap();
        serde_json::from_value(value).unwrap()
    };
    let kind = RequestAuthenticationObject::KIND;
    assert_eq!(bed.index.refused_http_rules(kind, &object("")).len(), 1);
    let refused = bed
        .index
        .refused_http_rules(kind, &object("ports: [8080],"));
    assert!(refused.is_empty());
    bed.apply("q.yaml", &authentication("jwt", "ports: [8080],"));
    assert!(bed.conflicts().is_empty());
}
