use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use weft_model::authorization_policy::Rule;
use weft_model::request_authentication::{
    ClaimPath, PublicKey, RequestAuthentication, SignatureAlgorithm, TokenLocation,
};

use super::*;
use crate::kinds::tests::read_live;

const ISSUER: &str = "https://issuer.example";

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa() -> Value {
    json!({ "kty": "RSA", "kid": "one", "n": encoded(&[1; 256]), "e": "AQAB" })
}

fn jwks(keys: &Value) -> String {
    json!({ "keys": keys }).to_string()
}

fn object(spec: Value) -> RequestAuthenticationObject {
    let document = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "RequestAuthentication",
        "metadata": { "name": "jwt", "namespace": "shop", "generation": 3 },
        "spec": spec,
    });
    let read = read_live(RequestAuthenticationObject::KIND, document);
    read.object.unwrap()
}

fn of_provider(provider: &Value) -> RequestAuthenticationObject {
    object(json!({ "providers": [provider] }))
}

/// A provider with other fields.
fn with(others: Value) -> Value {
    let mut provider = json!({ "issuer": ISSUER, "jwks": jwks(&json!([rsa()])) });
    let others = others.as_object().unwrap().clone();
    provider.as_object_mut().unwrap().extend(others);
    provider
}

fn authentication(object: &RequestAuthenticationObject) -> RequestAuthentication {
    object.policy.policy().authentication.unwrap()
}

#[test]
fn what_is_left_out_is_as_istio_has_it() {
    let object = of_provider(&with(json!({})));
    assert_eq!(object.name().to_string(), "shop/jwt");
    let told = object.policy.policy();
    assert_eq!(told.key.to_string(), "shop/RequestAuthentication:jwt");
    assert_eq!(told.action, Action::Authenticate);
    let name = RequestAuthenticationObject::name_of_told(&told.key);
    assert_eq!(name, Some(object.name()));
    let key = RequestAuthenticationObject::object_of_told(&object.name());
    assert_eq!(key.kind, AuthorizationPolicyObject::KIND);
    let authentication = authentication(&object);
    assert_eq!(authentication.ports, [0; 0]);
    let provider = &authentication.providers[0];
    assert_eq!(&*provider.issuer, ISSUER);
    assert!(provider.audiences.is_empty() && provider.algorithms.is_empty());
    assert!(!provider.forwards_token);
    let bearer = TokenLocation::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".into(),
    };
    let parameter = TokenLocation::Query("access_token".into());
    assert_eq!(provider.locations, [bearer, parameter]);
    assert_eq!(provider.keys.len(), 1);
    assert_eq!(object.key_sources, [None]);
}

#[test]
fn all_parts_are_understood() {
    let provider = with(json!({
        "audiences": ["shop"],
        "algorithms": ["RS256", "EdDSA"],
        "fromHeaders": [{ "name": "X-Token" }, { "name": "x-other", "prefix": "JWT " }],
        "fromCookies": ["session"],
        "fromParams": ["token"],
        "forwardOriginalToken": true,
        "outputClaimToHeaders": [{ "header": "x-jwt-roles", "claim": ["realm", "roles"] }],
        "outputPayloadToHeader": "x-jwt-payload",
    }));
    let object = object(json!({ "ports": [8080], "providers": [provider] }));
    let authentication = authentication(&object);
    assert_eq!(authentication.ports, [8080]);
    let provider = &authentication.providers[0];
    let algorithms = [SignatureAlgorithm::Rs256, SignatureAlgorithm::EdDsa];
    assert_eq!(provider.algorithms, algorithms);
    assert_eq!(provider.locations.len(), 4);
    assert_eq!(
        provider.locations[2],
        TokenLocation::Cookie("session".into())
    );
    let claim = &provider.claim_headers[0].claim;
    assert_eq!(*claim, ClaimPath::new(["realm", "roles"]).unwrap());
    assert_eq!(provider.payload_header.as_ref().unwrap(), "x-jwt-payload");
    assert!(provider.forwards_token);
}

fn assert_mistakes(mistakes: &[(Value, &str)]) {
    for (others, expected) in mistakes {
        let content = of_provider(&with(others.clone())).policy.content;
        let found = content.unwrap_err().to_string();
        let expected = format!("field spec.providers[0].{expected}");
        assert!(found.starts_with(&expected), "{others}: {found}");
    }
}

#[test]
fn a_mistake_in_an_issuer_is_told_with_its_field() {
    let many: Vec<_> = (0..17).map(|n| n.to_string()).collect();
    assert_mistakes(&[
        (json!({ "issuer": "" }), "issuer: missing"),
        (
            json!({ "algorithms": ["HS256"] }),
            "algorithms[0]: `HS256` is no",
        ),
        (
            json!({ "algorithms": ["none"] }),
            "algorithms[0]: `none` is no",
        ),
        (json!({ "audiences": [] }), "audiences: the list is empty"),
        (json!({ "audiences": many }), "audiences: 17 of them"),
        (json!({ "timeout": "1s" }), "timeout: unknown field"),
    ]);
    for (spec, expected) in [
        (json!({ "providers": [] }), "providers: missing"),
        (
            json!({ "ports": [0], "providers": [with(json!({}))] }),
            "ports[0]: 0 is not",
        ),
        (
            json!({ "ports": [], "providers": [with(json!({}))] }),
            "ports: the list",
        ),
    ] {
        let found = object(spec).policy.content.unwrap_err().to_string();
        assert!(
            found.starts_with(&format!("field spec.{expected}")),
            "{found}"
        );
    }
}

#[test]
fn a_mistake_in_keys_is_told_with_its_field() {
    let secret = jwks(&json!([{ "kty": "oct", "k": "c2VjcmV0" }]));
    let private = jwks(&json!([rsa(), { "kty": "EC", "crv": "P-256", "d": "AQ" }]));
    let at = |address: &str| json!({ "jwks": null, "jwksUri": address });
    assert_mistakes(&[
        (
            json!({ "jwks": "nonsense" }),
            "jwks: it is no JSON Web Key Set",
        ),
        (json!({ "jwks": "{\"keys\":[]}" }), "jwks: none of its keys"),
        (json!({ "jwks": secret }), "jwks: key 0 (from 0) is secret"),
        (json!({ "jwks": private }), "jwks: key 1 (from 0) is secret"),
        (
            json!({ "jwksUri": "https://a.example" }),
            "jwksUri: an issuer has its",
        ),
        (
            json!({ "jwks": null, "issuer": "somebody" }),
            "jwks: missing",
        ),
        (
            at("ftp://a.example"),
            "jwksUri: `ftp://a.example` is no https URL",
        ),
        (at("/keys"), "jwksUri: `/keys` is no https URL"),
        (
            at("https://user@a.example"),
            "jwksUri: `https://user@a.example` is no",
        ),
    ]);
}

#[test]
fn a_header_that_means_something_else_is_told_with_its_field() {
    let claims = |headers: &[&str]| {
        let headers = headers.iter();
        let headers = headers.map(|header| json!({ "header": header, "claim": ["sub"] }));
        json!({ "outputClaimToHeaders": headers.collect::<Vec<_>>() })
    };
    let mut token = claims(&["x_token"]);
    token["fromHeaders"] = json!([{ "name": "x-token" }]);
    let claim = "outputClaimToHeaders";
    assert_mistakes(&[
        (
            json!({ "fromHeaders": [{ "name": "a b" }] }),
            "fromHeaders[0].name: `a b` is no name",
        ),
        (
            claims(&["host"]),
            &format!("{claim}[0].header: `host` means"),
        ),
        (
            json!({ "outputPayloadToHeader": "X-Forwarded-Client-Cert" }),
            "outputPayloadToHeader: `x-forwarded-client-cert` means something else",
        ),
        (
            json!({ claim: [{ "header": "x-a", "claim": [] }] }),
            &format!("{claim}[0].claim: a claim has"),
        ),
        (token, &format!("{claim}: header `x_token` has a token")),
        (
            claims(&["x-a", "x-a"]),
            &format!("{claim}: header `x-a` has a token"),
        ),
    ]);
}

#[test]
fn keys_for_something_else_are_left_out() {
    let point = |length| encoded(&vec![7; length]);
    let ec = |curve: &str, length: usize| json!({ "kty": "EC", "crv": curve, "x": point(length), "y": point(length) });
    let mut for_encryption = rsa();
    for_encryption["use"] = json!("enc");
    let mut of_secrets = rsa();
    of_secrets["alg"] = json!("HS256");
    let mut other = ec("P-256", 32);
    other["alg"] = json!("RS256");
    let mut named = ec("P-256", 31);
    named["alg"] = json!("ES256");
    named["use"] = json!("sig");
    let keys = jwks(&json!([
        for_encryption,
        of_secrets,
        other,
        { "kty": "RSA", "n": encoded(&[1; 128]), "e": "AQAB" },
        ec("P-521", 66),
        ec("P-256", 33),
        { "kty": "OKP", "crv": "X25519", "x": point(32) },
        "nonsense",
        rsa(),
        named,
        ec("P-384", 48),
        { "kty": "OKP", "crv": "Ed25519", "x": point(32) },
    ]));
    let keys = parse_keys(&keys).unwrap();
    let [one, two, three, four] = &*keys else {
        panic!("{keys:?}")
    };
    assert_eq!(one.id.as_deref(), Some("one"));
    assert!(matches!(one.key, PublicKey::Rsa { .. }));
    assert_eq!(two.algorithm, Some(SignatureAlgorithm::Es256));
    let PublicKey::P256(point) = &two.key else {
        panic!("{two:?}")
    };
    assert_eq!((point.len(), point[0], point[1], point[2]), (65, 4, 0, 7));
    assert!(matches!(three.key, PublicKey::P384(_)));
    assert!(matches!(four.key, PublicKey::Ed25519(_)));
    let many = jwks(&json!(vec![rsa(); 33]));
    assert_eq!(parse_keys(&many), Err(InvalidKeys::TooMany(33)));
}

#[test]
fn one_that_can_not_be_read_denies_unless_it_said_something_before() {
    let bad = || of_provider(&with(json!({ "algorithms": ["none"] })));
    let policy = bad().policy.policy();
    assert_eq!(policy.action, Action::Deny);
    assert_eq!(policy.rules, [Rule::default()]);
    let address = "https://issuer.example/keys";
    let good = of_provider(&with(json!({ "jwks": null, "jwksUri": address })));
    let source = KeySource::Address(address.into());
    assert_eq!(good.key_sources, [Some(source.clone())]);
    let mut now = bad();
    now.keep_last_good(&good);
    assert_eq!(now.policy.policy(), good.policy.policy());
    assert_eq!(now.key_sources, good.key_sources);
    let told = now.with_keys(|asked| {
        assert_eq!(*asked, source);
        parse_keys(&jwks(&json!([rsa()]))).unwrap()
    });
    let told = &told.authentication.unwrap().providers[0];
    assert_eq!(told.keys.len(), 1);
    assert_eq!(told.key_source.as_deref(), Some(address));
}

#[test]
fn an_issuer_that_says_nothing_of_its_keys_is_asked_for_them() {
    let object = of_provider(&with(json!({ "jwks": null })));
    let source = KeySource::Issuer(ISSUER.into());
    assert_eq!(object.key_sources, [Some(source)]);
    let told = object.with_keys(|_| Vec::new());
    assert!(told.authentication.unwrap().providers[0].awaits_keys());
}
