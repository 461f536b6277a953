//! What a token needs, and what its claims are.

use std::sync::Arc;

use http::HeaderName;

use super::*;

const NOW: u64 = 1_800_000_000;

fn text(text: &str) -> ClaimValue {
    ClaimValue::Text(text.into())
}

fn claims(members: Vec<(&str, ClaimValue)>) -> Claims {
    let members = members.into_iter();
    Claims::new(members.map(|(name, value)| (name.into(), value)).collect())
}

/// A valid token, with other members in place of its own.
fn token(others: &[(&str, ClaimValue)]) -> Claims {
    let own = [
        ("iss", text("https://issuer.example")),
        ("sub", text("alice")),
        ("aud", text("shop")),
        ("exp", ClaimValue::Integer(NOW as i64 + 300)),
    ];
    let is_other = |name: &str| others.iter().any(|(other, _)| *other == name);
    let kept = own.into_iter().filter(|(name, _)| !is_other(name));
    claims(kept.chain(others.iter().cloned()).collect())
}

fn provider(audiences: &[&str]) -> JwtProvider {
    JwtProvider {
        issuer: "https://issuer.example".into(),
        audiences: audiences
            .iter()
            .map(|audience| (*audience).into())
            .collect(),
        algorithms: vec![],
        key_source: None,
        keys: vec![],
        locations: vec![],
        forwards_token: false,
        claim_headers: vec![],
        payload_header: None,
    }
}

fn check(others: &[(&str, ClaimValue)]) -> Result<(), TokenRefusal> {
    provider(&["shop", "bank"]).check(&token(others), NOW)
}

#[test]
fn a_token_is_for_its_time() {
    let at = |seconds: i64| ClaimValue::Integer(NOW as i64 + seconds);
    let leeway = LEEWAY.as_secs() as i64;
    for (name, value, expected) in [
        ("exp", at(1), Ok(())),
        ("exp", at(1 - leeway), Ok(())),
        ("exp", at(-leeway), Err(TokenRefusal::Expired)),
        ("exp", ClaimValue::Integer(0), Err(TokenRefusal::Expired)),
        (
            "exp",
            ClaimValue::Integer(i64::MIN),
            Err(TokenRefusal::Expired),
        ),
        ("exp", ClaimValue::Number(NOW as f64 + 0.5), Ok(())),
        (
            "exp",
            ClaimValue::Number(f64::INFINITY),
            Err(TokenRefusal::Malformed),
        ),
        ("exp", ClaimValue::Null, Err(TokenRefusal::Malformed)),
        ("exp", text("9999999999"), Err(TokenRefusal::Malformed)),
        ("nbf", at(leeway), Ok(())),
        ("nbf", at(leeway + 1), Err(TokenRefusal::NotYetValid)),
        ("nbf", ClaimValue::Bool(false), Err(TokenRefusal::Malformed)),
        ("iat", at(leeway), Ok(())),
        ("iat", at(leeway + 1), Err(TokenRefusal::NotYetValid)),
    ] {
        assert_eq!(
            check(&[(name, value.clone())]),
            expected,
            "{name} {value:?}"
        );
    }
}

#[test]
fn a_token_is_for_its_audience_and_from_its_issuer() {
    let list = |texts: &[&str]| ClaimValue::List(texts.iter().map(|part| text(part)).collect());
    for (name, value, expected) in [
        ("aud", text("bank"), Ok(())),
        ("aud", list(&["x", "bank"]), Ok(())),
        ("aud", list(&["x"]), Err(TokenRefusal::Audience)),
        ("aud", list(&[]), Err(TokenRefusal::Audience)),
        ("aud", text("shop/"), Err(TokenRefusal::Audience)),
        ("aud", ClaimValue::Integer(1), Err(TokenRefusal::Malformed)),
        (
            "aud",
            ClaimValue::List(vec![ClaimValue::Null]),
            Err(TokenRefusal::Malformed),
        ),
        (
            "iss",
            text("https://issuer.example/"),
            Err(TokenRefusal::Issuer),
        ),
        (
            "iss",
            list(&["https://issuer.example"]),
            Err(TokenRefusal::Issuer),
        ),
        ("sub", ClaimValue::Null, Ok(())),
    ] {
        assert_eq!(
            check(&[(name, value.clone())]),
            expected,
            "{name} {value:?}"
        );
    }
}

#[test]
fn a_token_without_what_it_needs_is_none() {
    let without = |name: &str| {
        let all = token(&[]);
        let names = ["iss", "sub", "aud", "exp"].into_iter();
        let kept = names.filter(|known| *known != name);
        claims(
            kept.map(|name| (name, all.member(name).unwrap().clone()))
                .collect(),
        )
    };
    let of = |audiences, name| provider(audiences).check(&without(name), NOW);
    assert_eq!(of(&["shop"], "exp"), Err(TokenRefusal::NoExpiry));
    assert_eq!(of(&["shop"], "aud"), Err(TokenRefusal::Audience));
    assert_eq!(of(&[], "aud"), Ok(()), "any audience will do");
    assert_eq!(of(&["shop"], "iss"), Err(TokenRefusal::Issuer));
}

#[test]
fn a_principal_needs_issuer_and_subject() {
    assert_eq!(token(&[]).principal(), Some("https://issuer.example/alice"));
    for subject in [text(""), ClaimValue::Null, ClaimValue::Integer(1)] {
        assert_eq!(token(&[("sub", subject)]).principal(), None);
    }
}

#[test]
fn a_path_leads_to_a_claim_within_a_claim() {
    let roles = ClaimValue::List(vec![text("admin")]);
    let realm = ClaimValue::Object(vec![("roles".into(), roles.clone())]);
    let token = token(&[("realm", realm), ("realm.roles", text("dotted"))]);
    let get = |names: &[&str]| token.get(&ClaimPath::new(names.iter().copied()).unwrap());
    assert_eq!(get(&["realm", "roles"]), Some(&roles));
    assert_eq!(get(&["realm.roles"]), Some(&text("dotted")));
    assert_eq!(get(&["realm", "roles", "0"]), None);
    assert_eq!(get(&["sub", "x"]), None);
    assert!(ClaimPath::new([""]).is_err());
    assert!(ClaimPath::new(Vec::<Arc<str>>::new()).is_err());
    assert!(ClaimPath::new(["a"; 9]).is_err());
}

#[test]
fn a_key_is_for_its_own_type_of_signatures() {
    let rsa = PublicKey::Rsa {
        modulus: vec![1; 256].into(),
        exponent: vec![1, 0, 1].into(),
    };
    let p256 = PublicKey::P256([&[4][..], &[1; 64]].concat().into());
    let p384 = PublicKey::P384([&[4][..], &[1; 96]].concat().into());
    let ed25519 = PublicKey::Ed25519(vec![1; 32].into());
    for (key, prefixes) in [
        (&rsa, &["RS", "PS"][..]),
        (&p256, &["ES256"]),
        (&p384, &["ES384"]),
        (&ed25519, &["EdDSA"]),
    ] {
        assert!(key.is_well_formed());
        for algorithm in SignatureAlgorithm::ALL {
            let name = algorithm.as_str();
            let expected = prefixes.iter().any(|prefix| name.starts_with(prefix));
            assert_eq!(key.fits(algorithm), expected, "{name}");
        }
    }
    let of_size = |modulus: usize, exponent: usize| PublicKey::Rsa {
        modulus: vec![1; modulus].into(),
        exponent: vec![1; exponent].into(),
    };
    assert!(of_size(512, 4).is_well_formed());
    for malformed in [
        of_size(128, 3),
        // Whoever sends a token that isn't theirs has them verify it all the same.
        of_size(513, 3),
        of_size(256, 5),
        PublicKey::P256(vec![2; 33].into()),
        PublicKey::Ed25519(vec![1; 31].into()),
    ] {
        assert!(!malformed.is_well_formed(), "{malformed:?}");
    }
    let key = JsonWebKey {
        id: Some("a".into()),
        algorithm: Some(SignatureAlgorithm::Rs256),
        key: rsa,
    };
    assert!(key.is_for(Some("a"), SignatureAlgorithm::Rs256));
    assert!(key.is_for(None, SignatureAlgorithm::Rs256));
    assert!(!key.is_for(Some("b"), SignatureAlgorithm::Rs256));
    assert!(!key.is_for(Some("a"), SignatureAlgorithm::Ps256));
}

#[test]
fn no_secret_and_no_signature_is_an_algorithm() {
    for name in [
        "none", "None", "HS256", "HS384", "HS512", "rs256", "ES256K", "ES512", "",
    ] {
        assert!(name.parse::<SignatureAlgorithm>().is_err(), "{name}");
    }
    for algorithm in SignatureAlgorithm::ALL {
        assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
    }
}

#[test]
fn servers_take_an_underscore_for_a_dash() {
    let name = HeaderName::from_static;
    assert!(is_same_header(&name("x-jwt-sub"), &name("x_jwt_sub")));
    assert!(is_same_header(&name("x-jwt-sub"), &name("x.jwt-sub")));
    assert!(!is_same_header(&name("x-jwt-sub"), &name("xajwt-sub")));
    assert!(!is_same_header(&name("x-jwt-sub"), &name("x-jwt-sub2")));
}
