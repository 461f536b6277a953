//! Tokens of requests: each way of getting past their verification, and what the application gets.

use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, Method, Uri};
use serde_json::{Value, json};
use weft_model::NamespacedName;
use weft_model::authorization_policy::{
    Action, AuthorizationMembership, AuthorizationPolicies, AuthorizationPolicy,
};
use weft_model::request_authentication::{
    ClaimHeader, ClaimPath, JsonWebKey, JwtProvider, PublicKey, RequestAuthentication,
    SignatureAlgorithm, TokenLocation, TokenRefusal,
};

use super::authenticate::AuthenticatedRequest;
use super::{TokenVerifier, read_token};
use crate::key_requests::KeyRequests;
use crate::upstream::RequestHead;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these parts, signed by that.
fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!(
        "{}.{}",
        encoded(header.to_string()),
        encoded(claims.to_string())
    );
    let signature = encoded(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "alice", "aud": "shop", "exp": NOW + 300 })
}

/// The same with another member, or without one.
fn with(name: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().unwrap();
    members.remove(name);
    members.extend(value.map(|value| (name.to_owned(), value)));
    claims
}

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self::of(&ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn of(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Self(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": "one", "typ": "JWT" });
        token(&header, claims, |message| self.sign(message))
    }

    fn key(&self) -> JsonWebKey {
        let point = self.0.public_key().as_ref().into();
        key("one", PublicKey::P256(point))
    }
}

fn key(id: &str, key: PublicKey) -> JsonWebKey {
    JsonWebKey {
        id: Some(id.into()),
        algorithm: None,
        key,
    }
}

fn bearer() -> TokenLocation {
    TokenLocation::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".into(),
    }
}

fn provider(keys: Vec<JsonWebKey>) -> JwtProvider {
    JwtProvider {
        issuer: ISSUER.into(),
        audiences: vec!["shop".into()],
        algorithms: vec![],
        keys,
        key_source: None,
        locations: vec![
            bearer(),
            TokenLocation::Cookie("session".into()),
            TokenLocation::Query("access_token".into()),
        ],
        forwards_token: false,
        claim_headers: vec![],
        payload_header: None,
    }
}

/// The policies of a workload that takes tokens of these issuers.
fn policies(providers: Vec<JwtProvider>) -> AuthorizationPolicies {
    let policy = Arc::new(AuthorizationPolicy {
        key: NamespacedName::new("shop", "tokens"),
        action: Action::Authenticate,
        is_dry_run: false,
        rules: vec![],
        authentication: Some(RequestAuthentication {
            ports: vec![80],
            providers: providers.into_iter().map(Arc::new).collect(),
        }),
    });
    let membership = AuthorizationMembership {
        policies: vec![policy.key.clone()],
        ..AuthorizationMembership::default()
    };
    let web = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    AuthorizationPolicies::new(&web, &membership, |_| Some(Arc::clone(&policy)))
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| {
        let name: HeaderName = name.parse().unwrap();
        (name, value.parse().unwrap())
    });
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}

fn ask(
    verifier: &TokenVerifier,
    policies: &AuthorizationPolicies,
    target: &str,
    lines: &[(&str, &str)],
    now: u64,
) -> Result<AuthenticatedRequest, TokenRefusal> {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let headers = headers(lines);
    let head = RequestHead {
        method: &Method::GET,
        path,
        query,
        host: "web",
        headers: &headers,
    };
    let asked = verifier.authenticate(policies, 80, &head, now);
    asked.map(|authenticated| authenticated.expect("somebody verifies tokens"))
}

/// The subject of a request with a token, or why it is refused.
fn verified(provider: JwtProvider, token: &str) -> Result<Option<String>, TokenRefusal> {
    let line = format!("Bearer {token}");
    let verifier = TokenVerifier::default();
    let asked = ask(
        &verifier,
        &policies(vec![provider]),
        "/",
        &[("authorization", &line)],
        NOW,
    );
    let claims = asked?.claims;
    Ok(claims.and_then(|claims| claims.text("sub").map(str::to_owned)))
}

fn alice() -> Result<Option<String>, TokenRefusal> {
    Ok(Some("alice".to_owned()))
}

#[test]
fn a_token_of_each_algorithm_is_verified() {
    let check =
        |algorithm: SignatureAlgorithm, key: PublicKey, signature: &dyn Fn(&[u8]) -> Vec<u8>| {
            let header = json!({ "alg": algorithm.as_str() });
            let signed = token(&header, &claims(), signature);
            let provider = provider(vec![self::key("one", key)]);
            assert_eq!(verified(provider.clone(), &signed), alice(), "{algorithm}");
            let forged = token(&header, &claims(), |_| signature(b"something else"));
            let refused = verified(provider, &forged);
            assert_eq!(refused, Err(TokenRefusal::Signature), "{algorithm}");
        };
    use aws_lc_rs::signature::{
        RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA384, RSA_PSS_SHA512,
    };
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let encodings: [(_, &dyn RsaEncoding); 6] = [
        (SignatureAlgorithm::Rs256, &RSA_PKCS1_SHA256),
        (SignatureAlgorithm::Rs384, &RSA_PKCS1_SHA384),
        (SignatureAlgorithm::Rs512, &RSA_PKCS1_SHA512),
        (SignatureAlgorithm::Ps256, &RSA_PSS_SHA256),
        (SignatureAlgorithm::Ps384, &RSA_PSS_SHA384),
        (SignatureAlgorithm::Ps512, &RSA_PSS_SHA512),
    ];
    for (algorithm, encoding) in encodings {
        check(algorithm, rsa_key(&rsa), &|message| {
            rsa_signature(&rsa, encoding, message)
        });
    }
    let p256 = Signer::new();
    check(SignatureAlgorithm::Es256, p256.key().key, &|message| {
        p256.sign(message)
    });
    let p384 = Signer::of(&ECDSA_P384_SHA384_FIXED_SIGNING);
    let point = p384.0.public_key().as_ref().into();
    check(
        SignatureAlgorithm::Es384,
        PublicKey::P384(point),
        &|message| p384.sign(message),
    );
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let bytes = ed25519.public_key().as_ref().into();
    check(
        SignatureAlgorithm::EdDsa,
        PublicKey::Ed25519(bytes),
        &|message| ed25519.sign(message).as_ref().to_vec(),
    );
}

fn rsa_key(pair: &RsaKeyPair) -> PublicKey {
    let public = pair.public_key();
    PublicKey::Rsa {
        modulus: public.modulus().big_endian_without_leading_zero().into(),
        exponent: public.exponent().big_endian_without_leading_zero().into(),
    }
}

fn rsa_signature(pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    pair.sign(encoding, &random, message, &mut signature)
        .unwrap();
    signature
}

#[test]
fn a_public_key_is_never_a_secret_and_no_signature_is_none() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = pair.public_key();
    let keys = || vec![key("one", rsa_key(&pair))];
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}", encoded(public.as_ref()));
    for secret in [public.as_ref(), pem.as_bytes(), b""] {
        for (name, algorithm) in [
            ("HS256", hmac::HMAC_SHA256),
            ("HS384", hmac::HMAC_SHA384),
            ("HS512", hmac::HMAC_SHA512),
        ] {
            let secret = hmac::Key::new(algorithm, secret);
            let header = json!({ "alg": name, "kid": "one" });
            let forged = token(&header, &claims(), |message| {
                hmac::sign(&secret, message).as_ref().to_vec()
            });
            assert_eq!(
                verified(provider(keys()), &forged),
                Err(TokenRefusal::Algorithm)
            );
        }
    }
    for name in ["none", "None", "NONE", "nOnE", ""] {
        for signature in [&b""[..], b"x"] {
            let unsigned = token(&json!({ "alg": name }), &claims(), |_| signature.to_vec());
            assert_eq!(
                verified(provider(keys()), &unsigned),
                Err(TokenRefusal::Algorithm)
            );
        }
    }
    let without = token(&json!({ "kid": "one" }), &claims(), |_| vec![]);
    assert_eq!(
        verified(provider(keys()), &without),
        Err(TokenRefusal::Algorithm)
    );
    // A signature of another of its type's algorithms.
    let header = json!({ "alg": "RS256" });
    let signed = token(&header, &claims(), |message| {
        rsa_signature(&pair, &RSA_PSS_SHA256, message)
    });
    assert_eq!(
        verified(provider(keys()), &signed),
        Err(TokenRefusal::Signature)
    );
    // One that its key is not for, or that the issuer doesn't use.
    let signed = token(&header, &claims(), |message| {
        rsa_signature(&pair, &RSA_PKCS1_SHA256, message)
    });
    let mut other = provider(keys());
    other.keys[0].algorithm = Some(SignatureAlgorithm::Ps256);
    assert_eq!(verified(other, &signed), Err(TokenRefusal::NoKey));
    let mut other = provider(keys());
    other.algorithms = vec![SignatureAlgorithm::Es256];
    assert_eq!(verified(other, &signed), Err(TokenRefusal::Algorithm));
    assert_eq!(verified(provider(keys()), &signed), alice());
}

#[test]
fn the_key_that_a_token_names_is_the_one_that_counts() {
    let (own, other) = (Signer::new(), Signer::new());
    let of = |kid: Value, signer: &Signer| {
        let header = json!({ "alg": "ES256", "kid": kid });
        token(&header, &claims(), |message| signer.sign(message))
    };
    let keys = || vec![own.key()];
    assert_eq!(verified(provider(keys()), &of(json!("one"), &own)), alice());
    let wrong = of(json!("two"), &own);
    assert_eq!(verified(provider(keys()), &wrong), Err(TokenRefusal::NoKey));
    let forged = of(json!("one"), &other);
    assert_eq!(
        verified(provider(keys()), &forged),
        Err(TokenRefusal::Signature)
    );
    for kid in [json!(null), json!(1), json!(["one"])] {
        let refused = verified(provider(keys()), &of(kid, &own));
        assert_eq!(refused, Err(TokenRefusal::Malformed));
    }
    assert_eq!(
        verified(provider(vec![]), &own.token(&claims())),
        Err(TokenRefusal::NoKey)
    );
    // Without a name, all are tried.
    let header = json!({ "alg": "ES256" });
    let nameless = token(&header, &claims(), |message| own.sign(message));
    let two = vec![key("two", other.key().key), own.key()];
    assert_eq!(verified(provider(two), &nameless), alice());
    // The keys that a token brings along are nobody's.
    let point = other.0.public_key().as_ref();
    let header = json!({
        "alg": "ES256",
        "jwk": { "kty": "EC", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) },
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/chain",
        "x5c": ["x"],
    });
    let forged = token(&header, &claims(), |message| other.sign(message));
    assert_eq!(
        verified(provider(keys()), &forged),
        Err(TokenRefusal::Signature)
    );
}

#[test]
fn what_a_token_says_of_itself_is_looked_at() {
    let signer = Signer::new();
    let of = |claims: &Value| verified(provider(vec![signer.key()]), &signer.token(claims));
    for (name, value, expected) in [
        ("exp", Some(json!(NOW - 61)), TokenRefusal::Expired),
        ("exp", None, TokenRefusal::NoExpiry),
        ("exp", Some(json!("tomorrow")), TokenRefusal::Malformed),
        ("nbf", Some(json!(NOW + 61)), TokenRefusal::NotYetValid),
        ("iat", Some(json!(NOW + 61)), TokenRefusal::NotYetValid),
        ("aud", Some(json!("bank")), TokenRefusal::Audience),
        ("aud", Some(json!([])), TokenRefusal::Audience),
        ("aud", None, TokenRefusal::Audience),
        (
            "iss",
            Some(json!("https://evil.example")),
            TokenRefusal::Issuer,
        ),
        ("iss", None, TokenRefusal::Issuer),
    ] {
        assert_eq!(
            of(&with(name, value.clone())),
            Err(expected),
            "{name} {value:?}"
        );
    }
    assert_eq!(of(&with("aud", Some(json!(["bank", "shop"])))), alice());
    assert_eq!(of(&with("nbf", Some(json!(NOW + 59)))), alice());
}

#[test]
fn what_two_readers_may_read_in_two_ways_is_no_token() {
    let signer = Signer::new();
    let keys = || provider(vec![signer.key()]);
    let raw = |header: &str, payload: &str| {
        let message = format!("{}.{}", encoded(header), encoded(payload));
        let signature = encoded(signer.sign(message.as_bytes()));
        format!("{message}.{signature}")
    };
    let header = r#"{"alg":"ES256","kid":"one"}"#;
    let payload = claims().to_string();
    let good = raw(header, &payload);
    assert_eq!(verified(keys(), &good), alice());
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    let many = format!("{{\"a\":[{}]}}", vec!["0"; 3000].join(","));
    let twice = payload.replacen('{', r#"{"sub":"admin","#, 1);
    let nested = payload.replacen('{', r#"{"x":{"a":1,"a":2},"#, 1);
    for malformed in [
        raw(r#"{"alg":"none","alg":"ES256","kid":"one"}"#, &payload),
        raw(header, &twice),
        raw(header, &nested),
        raw(header, &deep),
        raw(header, &many),
        raw(header, "[]"),
        raw(header, "nonsense"),
        raw(header, &format!("{payload} x")),
        raw("{}x", &payload),
        good.replace('.', ".."),
        format!("{good}."),
        format!("{good}="),
        format!("{good}, {good}"),
        good.rsplit_once('.').unwrap().0.to_owned(),
        format!("{}.a.b", good.rsplit_once('.').unwrap().0),
        good.replacen('.', " .", 1),
        "a.b.c".to_owned(),
        "..".to_owned(),
        String::new(),
    ] {
        let refused = verified(keys(), &malformed);
        assert_eq!(refused, Err(TokenRefusal::Malformed), "{malformed}");
    }
    for critical in [
        r#"{"alg":"ES256","kid":"one","crit":["exp"]}"#,
        r#"{"alg":"ES256","kid":"one","crit":[]}"#,
        r#"{"alg":"ES256","kid":"one","b64":false}"#,
    ] {
        let refused = verified(keys(), &raw(critical, &payload));
        assert_eq!(refused, Err(TokenRefusal::Critical));
    }
    let large = raw(header, &format!("{{\"a\":\"{}\"}}", "x".repeat(20_000)));
    assert_eq!(verified(keys(), &large), Err(TokenRefusal::TooLarge));
    assert_eq!(read_token(large.as_bytes()), Err(TokenRefusal::TooLarge));
}

#[test]
fn a_signature_of_ecdsa_has_one_form() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let header = json!({ "alg": "ES256" });
    let signed = token(&header, &claims(), |message| {
        let signature = pair.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    });
    let point = pair.public_key().as_ref().into();
    let provider = provider(vec![key("one", PublicKey::P256(point))]);
    assert_eq!(
        verified(provider.clone(), &signed),
        Err(TokenRefusal::Signature)
    );
    for zeros in [vec![], vec![0; 64], vec![0; 63], vec![0; 65]] {
        let signed = token(&header, &claims(), |_| zeros);
        assert_eq!(
            verified(provider.clone(), &signed),
            Err(TokenRefusal::Signature)
        );
    }
}

#[test]
fn a_token_is_found_wherever_its_issuer_puts_it_and_two_are_too_many() {
    let signer = Signer::new();
    let policies = policies(vec![provider(vec![signer.key()])]);
    let token = signer.token(&claims());
    let verifier = TokenVerifier::default();
    let subject = |target: &str, lines: &[(&str, &str)]| {
        let asked = ask(&verifier, &policies, target, lines, NOW)?;
        let claims = asked.claims;
        Ok(claims.and_then(|claims| claims.text("sub").map(str::to_owned)))
    };
    let header = format!("Bearer {token}");
    let cookie = format!("a=b; session={token}; c=d");
    let query = format!("/?a=b&access_token={token}");
    for (target, lines) in [
        ("/", vec![("authorization", &*header)]),
        (
            "/",
            vec![("authorization", &*header.replace("Bearer ", "bearer   "))],
        ),
        ("/", vec![("cookie", &*cookie)]),
        ("/", vec![("cookie", "a=b"), ("cookie", &*cookie)]),
        (&*query, vec![]),
        (&*query.replace("access_token", "acc%65ss_token"), vec![]),
        (&*query.replace('.', "%2E"), vec![]),
        (
            "/",
            vec![("authorization", "Basic YTpi"), ("authorization", &*header)],
        ),
    ] {
        assert_eq!(subject(target, &lines), alice(), "{target} {lines:?}");
    }
    for (target, lines) in [
        ("/", vec![]),
        ("/?access_tokens=a", vec![]),
        ("/", vec![("authorization", "Basic YTpi")]),
        ("/", vec![("authorization", "Bearerx")]),
        ("/", vec![("cookie", "sessions=a; a")]),
        ("/", vec![("x-token", &*token)]),
    ] {
        assert_eq!(subject(target, &lines), Ok(None), "{target} {lines:?}");
    }
    for (target, lines) in [
        (
            "/",
            vec![("authorization", &*header), ("authorization", &*header)],
        ),
        ("/", vec![("authorization", &*header), ("cookie", &*cookie)]),
        (&*query, vec![("authorization", &*header)]),
        ("/?access_token=a&access_token=b", vec![]),
        ("/", vec![("cookie", "session=a; session=b")]),
    ] {
        assert_eq!(
            subject(target, &lines),
            Err(TokenRefusal::Several),
            "{target} {lines:?}"
        );
    }
    for empty in ["Bearer", "Bearer ", "bearer\t"] {
        let refused = subject("/", &[("authorization", empty)]);
        assert_eq!(refused, Err(TokenRefusal::Malformed), "{empty}");
    }
}

#[test]
fn of_several_issuers_each_has_its_own_keys_and_places() {
    let (one, two) = (Signer::new(), Signer::new());
    let other = JwtProvider {
        issuer: "https://other.example".into(),
        locations: vec![TokenLocation::Header {
            name: HeaderName::from_static("x-token"),
            prefix: "".into(),
        }],
        ..provider(vec![two.key()])
    };
    let policies = policies(vec![provider(vec![one.key()]), other]);
    let of_other = with("iss", Some(json!("https://other.example")));
    let verifier = TokenVerifier::default();
    let outcome = |token: String, name: &str| {
        let value = match name {
            "authorization" => format!("Bearer {token}"),
            _ => token,
        };
        let asked = ask(&verifier, &policies, "/", &[(name, &*value)], NOW);
        asked.map(|asked| asked.claims.is_some())
    };
    assert_eq!(outcome(one.token(&claims()), "authorization"), Ok(true));
    assert_eq!(outcome(two.token(&of_other), "x-token"), Ok(true));
    let wrong_place = outcome(two.token(&of_other), "authorization");
    assert_eq!(wrong_place, Err(TokenRefusal::Issuer));
    let wrong_place = outcome(one.token(&claims()), "x-token");
    assert_eq!(
        wrong_place,
        Err(TokenRefusal::Issuer),
        "verified a moment ago elsewhere"
    );
    let wrong_key = outcome(two.token(&claims()), "authorization");
    assert_eq!(wrong_key, Err(TokenRefusal::Signature));
    let wrong_key = outcome(one.token(&of_other), "x-token");
    assert_eq!(wrong_key, Err(TokenRefusal::Signature));
}

/// An issuer some of whose claims the application gets.
fn telling(signer: &Signer) -> JwtProvider {
    let header = |name, claim: &[&str]| ClaimHeader {
        name: HeaderName::from_static(name),
        claim: ClaimPath::new(claim.iter().copied()).unwrap(),
    };
    JwtProvider {
        claim_headers: vec![
            header("x-jwt-sub", &["sub"]),
            header("x-jwt-groups", &["groups"]),
            header("x-jwt-city", &["address", "city"]),
            header("x-jwt-level", &["level"]),
            header("x-jwt-absent", &["absent"]),
            header("x-jwt-comma", &["comma"]),
            header("x-jwt-line", &["line"]),
        ],
        payload_header: Some(HeaderName::from_static("x-jwt-payload")),
        ..provider(vec![signer.key()])
    }
}

/// A token with such claims.
fn token_that_tells(signer: &Signer) -> String {
    let mut claims = claims();
    claims["groups"] = json!(["a", "b"]);
    claims["address"] = json!({ "city": "Ulm" });
    claims["level"] = json!(3);
    claims["comma"] = json!(["a,admin"]);
    claims["line"] = json!("a\r\nx-admin: yes");
    signer.token(&claims)
}

const SPOOFED: [(&str, &str); 8] = [
    ("x-jwt-sub", "admin"),
    ("x-jwt-sub", "admin"),
    ("X_JWT_Sub", "admin"),
    ("x-jwt_absent", "admin"),
    ("x-jwt-comma", "admin"),
    ("x-jwt-line", "admin"),
    ("x-jwt-payload", "admin"),
    ("x-other", "kept"),
];

/// Headers and target that the application gets.
fn got(
    policies: &AuthorizationPolicies,
    target: &str,
    lines: &[(&str, &str)],
) -> (HeaderMap, String) {
    let asked = ask(&TokenVerifier::default(), policies, target, lines, NOW).unwrap();
    let (mut headers, mut uri) = (HeaderMap::new(), target.parse::<Uri>().unwrap());
    asked.head.apply(&mut headers, &mut uri);
    (headers, uri.to_string())
}

#[test]
fn headers_of_claims_are_nobody_elses() {
    let policies = policies(vec![telling(&Signer::new())]);
    let (kept, _) = got(&policies, "/", &SPOOFED);
    assert_eq!(kept, headers(&[("x-other", "kept")]));
}

#[test]
fn the_application_gets_the_claims_and_not_the_token_unless_it_should() {
    let signer = Signer::new();
    let forwarding = policies(vec![JwtProvider {
        forwards_token: true,
        ..telling(&signer)
    }]);
    let policies = policies(vec![telling(&signer)]);
    let token = token_that_tells(&signer);
    let payload = token.split('.').nth(1).unwrap();
    let of_token = [
        ("x-other", "kept"),
        ("x-jwt-sub", "alice"),
        ("x-jwt-groups", "a,b"),
        ("x-jwt-city", "Ulm"),
        ("x-jwt-level", "3"),
        ("x-jwt-payload", payload),
    ];
    let bearer = format!("Bearer {token}");
    let cookie = format!("a=b; session={token}; c=d");
    let query = format!("/p?a=b&access_token={token}&c=%20");
    for (target, line, rest) in [
        ("/", Some(("authorization", &*bearer)), None),
        (
            "/",
            Some(("cookie", &*cookie)),
            Some(("cookie", "a=b; c=d")),
        ),
        (&*query, None, None),
    ] {
        let lines: Vec<_> = SPOOFED.into_iter().chain(line).collect();
        let (without, uri) = got(&policies, target, &lines);
        let expected: Vec<_> = of_token.into_iter().chain(rest).collect();
        assert_eq!(without, headers(&expected), "{target}");
        let expected = if target == "/" { "/" } else { "/p?a=b&c=%20" };
        assert_eq!(uri, expected);
        let (with, uri) = got(&forwarding, target, &lines);
        let expected: Vec<_> = of_token.into_iter().chain(line).collect();
        assert_eq!(with, headers(&expected), "{target}");
        assert_eq!(uri, target);
    }
    let only = format!("/p?access_token={token}");
    assert_eq!(got(&policies, &only, &[]).1, "/p");
}

#[test]
fn a_token_that_was_verified_is_not_valid_for_longer_nor_with_other_keys() {
    let signer = Signer::new();
    let of = |keys| policies(vec![provider(keys)]);
    let policies = of(vec![signer.key()]);
    let verifier = TokenVerifier::default();
    let line = format!("Bearer {}", signer.token(&claims()));
    let outcome = |policies: &AuthorizationPolicies, now| {
        let asked = ask(&verifier, policies, "/", &[("authorization", &*line)], now);
        asked.map(|asked| asked.claims.is_some())
    };
    assert_eq!(outcome(&policies, NOW), Ok(true));
    assert_eq!(verifier.cached(), 1);
    assert_eq!(outcome(&policies, NOW + 359), Ok(true));
    assert_eq!(outcome(&policies, NOW + 360), Err(TokenRefusal::Expired));
    assert_eq!(outcome(&of(vec![]), NOW), Err(TokenRefusal::NoKey));
    let other = of(vec![Signer::new().key()]);
    assert_eq!(outcome(&other, NOW), Err(TokenRefusal::Signature));
    assert_eq!(outcome(&policies, NOW), Ok(true));
}

#[test]
fn verified_tokens_are_kept_up_to_a_bound() {
    let signer = Signer::new();
    let policies = policies(vec![provider(vec![signer.key()])]);
    let verifier = TokenVerifier::default();
    for n in 0..1500 {
        let token = signer.token(&with("jti", Some(json!(n))));
        let line = format!("Bearer {token}");
        ask(&verifier, &policies, "/", &[("authorization", &*line)], NOW).unwrap();
        assert!(verifier.cached() <= 1024);
    }
    let large = json!("x".repeat(8000));
    for n in 0..300 {
        let mut claims = with("jti", Some(json!(n)));
        claims["large"] = large.clone();
        let line = format!("Bearer {}", signer.token(&claims));
        ask(&verifier, &policies, "/", &[("authorization", &*line)], NOW).unwrap();
    }
    assert!(verifier.cached() <= 1024 * 1024 / 8000);
}

#[test]
fn nobody_asks_on_another_port() {
    let policies = policies(vec![provider(vec![])]);
    let headers = headers(&[("authorization", "Bearer x")]);
    let head = RequestHead {
        method: &Method::GET,
        path: "/",
        query: None,
        host: "web",
        headers: &headers,
    };
    let asked = TokenVerifier::default().authenticate(&policies, 81, &head, NOW);
    assert!(asked.unwrap().is_none());
}

#[test]
fn a_token_is_tried_with_a_bounded_number_of_keys_of_all_its_issuers() {
    let signer = Signer::new();
    let others = |count: usize| -> Vec<JsonWebKey> {
        let other = JsonWebKey {
            id: None,
            ..Signer::new().key()
        };
        vec![other; count]
    };
    let verifier = TokenVerifier::default();
    let own = JsonWebKey {
        id: None,
        ..signer.key()
    };
    let token = signer.token(&claims());
    for (before, is_accepted) in [(31, true), (32, false)] {
        let policies = policies(vec![provider(others(before)), provider(vec![own.clone()])]);
        let header = format!("Bearer {token}");
        let got = ask(
            &verifier,
            &policies,
            "/",
            &[("authorization", &header)],
            NOW,
        );
        assert_eq!(got.is_ok(), is_accepted, "{before} others");
    }
}

#[test]
fn what_looks_like_a_header_of_tokens_is_taken_off() {
    let signer = Signer::new();
    let place = TokenLocation::Header {
        name: HeaderName::from_static("x-auth-token"),
        prefix: "".into(),
    };
    let policies = policies(vec![JwtProvider {
        locations: vec![place],
        forwards_token: true,
        ..provider(vec![signer.key()])
    }]);
    let good = signer.token(&claims());
    let headers = [("x-auth-token", &*good), ("x_auth_token", "forged")];
    let got = ask(&TokenVerifier::default(), &policies, "/", &headers, NOW).unwrap();
    assert!(!got.head.headers.contains_key("x_auth_token"), "{got:?}");
    assert!(got.head.headers.contains_key("x-auth-token"), "{got:?}");
}

#[test]
fn no_claim_becomes_a_header_that_servers_read_as_another() {
    let signer = Signer::new();
    let header = ClaimHeader {
        name: HeaderName::from_static("x-sub"),
        claim: ClaimPath::new(["sub"]).unwrap(),
    };
    let policies = policies(vec![JwtProvider {
        claim_headers: vec![header],
        ..provider(vec![signer.key()])
    }]);
    for (subject, is_header) in [("admin", true), (" admin", false), ("admin\t", false)] {
        let token = signer.token(&with("sub", Some(json!(subject))));
        let header = format!("Bearer {token}");
        let headers = [("authorization", &*header)];
        let got = ask(&TokenVerifier::default(), &policies, "/", &headers, NOW).unwrap();
        assert_eq!(
            got.head.headers.contains_key("x-sub"),
            is_header,
            "{subject:?}"
        );
    }
}

#[tokio::test]
async fn keys_that_were_not_fetched_refuse_for_now_and_unknown_ones_are_asked_for() {
    let source: Arc<str> = "https://issuer.example/keys".into();
    let signer = Signer::new();
    let fetched = |keys| JwtProvider {
        key_source: Some(Arc::clone(&source)),
        ..provider(keys)
    };
    let requests = Arc::<KeyRequests>::default();
    let verifier = TokenVerifier::asking(&requests);
    let line = format!("Bearer {}", signer.token(&claims()));
    let verify = |provider| {
        let policies = policies(vec![provider]);
        let asked = ask(&verifier, &policies, "/", &[("authorization", &line)], NOW);
        asked.map(|_| ())
    };
    assert_eq!(verify(fetched(vec![])), Err(TokenRefusal::KeysPending));
    assert!(TokenRefusal::KeysPending.is_temporary());
    // Of keys that were given nobody fetches others.
    let key = || JsonWebKey {
        id: Some("two".into()),
        ..Signer::new().key()
    };
    assert_eq!(verify(provider(vec![])), Err(TokenRefusal::NoKey));
    assert_eq!(verify(provider(vec![key()])), Err(TokenRefusal::NoKey));
    assert_eq!(verify(fetched(vec![key()])), Err(TokenRefusal::NoKey));
    assert_eq!(requests.next().await, std::slice::from_ref(&source));
    assert_eq!(verify(fetched(vec![signer.key()])), Ok(()));
}

#[tokio::test]
async fn a_token_without_a_key_id_that_no_key_verifies_has_the_keys_asked_for() {
    let source: Arc<str> = "https://issuer.example/keys".into();
    let requests = Arc::<KeyRequests>::default();
    let verifier = TokenVerifier::asking(&requests);
    let (before, now) = (Signer::new(), Signer::new());
    let header = json!({ "alg": "ES256" });
    let nameless = token(&header, &claims(), |message| now.sign(message));
    let line = format!("Bearer {nameless}");
    let policies = policies(vec![JwtProvider {
        key_source: Some(Arc::clone(&source)),
        ..provider(vec![before.key()])
    }]);
    let asked = ask(&verifier, &policies, "/", &[("authorization", &line)], NOW);
    assert_eq!(asked.map(|_| ()), Err(TokenRefusal::Signature));
    assert_eq!(requests.next().await, [source]);
}
