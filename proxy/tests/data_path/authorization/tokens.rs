//! Tokens of requests, verified where they arrive: to a Service and to a pod's own address, on the
//! same node and on another.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::request::Builder;
use http::{HeaderName, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use weft_model::authorization_policy::{ClaimMatch, HeaderMatch};
use weft_model::request_authentication::{
    ClaimHeader, ClaimPath, JsonWebKey, JwtProvider, PublicKey, RequestAuthentication,
    TokenLocation,
};

use super::requests::{connect_http2, served, switches};
use super::*;
use crate::http::{Answer, Client};

const ISSUER: &str = "testing@secure.istio.io";

/// An issuer of tokens.
struct Issuer(EcdsaKeyPair);

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": ISSUER, "aud": "shop", "exp": now() + 300 })
}

/// Claims with another one.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn message(header: &Value, claims: &Value) -> String {
    let (header, claims) = (header.to_string(), claims.to_string());
    format!("{}.{}", encoded(header), encoded(claims))
}

impl Issuer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", encoded(signature.unwrap()))
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": "ES256", "kid": "one" }), claims)
    }

    fn provider(&self) -> JwtProvider {
        let key = JsonWebKey {
            id: Some("one".into()),
            algorithm: None,
            key: PublicKey::P256(self.0.public_key().as_ref().into()),
        };
        JwtProvider {
            issuer: ISSUER.into(),
            audiences: vec!["shop".into()],
            algorithms: vec![],
            keys: vec![key],
            key_source: None,
            locations: vec![
                TokenLocation::Header {
                    name: AUTHORIZATION,
                    prefix: "Bearer ".into(),
                },
                TokenLocation::Query("access_token".into()),
            ],
            forwards_token: false,
            claim_headers: vec![ClaimHeader {
                name: HeaderName::from_static("x-jwt-sub"),
                claim: ClaimPath::new(["sub"]).unwrap(),
            }],
            payload_header: None,
        }
    }

    /// The policy that asks for its tokens where there are some.
    fn authentication(&self) -> AuthorizationPolicy {
        authentication(self.provider())
    }
}

fn authentication(provider: JwtProvider) -> AuthorizationPolicy {
    AuthorizationPolicy {
        authentication: Some(RequestAuthentication {
            ports: vec![],
            providers: vec![Arc::new(provider)],
        }),
        ..policy("RequestAuthentication:jwt", Action::Authenticate, vec![])
    }
}

fn from_principal(values: Values<&str>) -> Rule {
    let parse = |texts: Vec<&str>| -> Vec<_> {
        let texts = texts.into_iter();
        texts.map(|text| text.parse().unwrap()).collect()
    };
    Rule {
        from: vec![SourceMatch {
            request_principals: Values {
                any_of: parse(values.any_of),
                none_of: parse(values.none_of),
            },
            ..SourceMatch::default()
        }],
        ..Rule::default()
    }
}

fn request(path: &str) -> Builder {
    Request::get(path).header("host", "web")
}

async fn ask(connection: &mut Client, token: Option<&str>, path: &str) -> Answer {
    let mut request = request(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    connection.ask(request.body(Full::default()).unwrap()).await
}

/// The statuses of requests with these tokens.
async fn statuses<const N: usize>(connection: &mut Client, tokens: [Option<&str>; N]) -> [u16; N] {
    let mut statuses = [0; N];
    for (status, token) in statuses.iter_mut().zip(tokens) {
        *status = ask(connection, token, "/headers").await.status;
    }
    statuses
}

/// Istio's task "JWT Token": what is valid passes, what isn't gets 401, what has none passes until
/// a policy asks for it; then for the group of the second rule.
#[tokio::test]
async fn istios_task_of_tokens_goes_the_same_way() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let issuer = Issuer::new();
        let valid = issuer.token(&claims());
        let member = issuer.token(&with("groups", json!(["group1", "group2"])));
        let tokens = [None, Some(&*valid), Some(&*member), Some("invalidToken")];
        let principal = format!("{ISSUER}/{ISSUER}");
        let of_issuer = from_principal(Values::any_of([principal.as_str()]));
        let of_group = Rule {
            claims: vec![ClaimMatch {
                claim: ClaimPath::new(["groups"]).unwrap(),
                values: Values::any_of(["group1".parse().unwrap()]),
            }],
            ..of_issuer.clone()
        };
        // "Require valid tokens", as it is written with DENY.
        let without = from_principal(Values::none_of(["*"]));
        for to in served.addresses {
            let mut connection = Client::connect(&served.client, to).await;
            for (policies, expected) in [
                (None, [200, 200, 200, 401]),
                (Some((Action::Allow, &of_issuer)), [403, 200, 200, 401]),
                (Some((Action::Allow, &of_group)), [403, 403, 200, 401]),
                (Some((Action::Deny, &without)), [403, 200, 200, 401]),
            ] {
                let policies = policies.into_iter();
                let policies =
                    policies.map(|(action, rule)| policy("jwt", action, vec![rule.clone()]));
                let all = policies.chain([issuer.authentication()]);
                bed.authorize(&served.server, all.collect());
                let got = statuses(&mut connection, tokens).await;
                assert_eq!(got, expected, "{node} {to}");
            }
        }
        let flag = "response_flags=\"INVALID_TOKEN\"";
        let requests = "istio_requests_total{";
        let line = [requests, "\"destination\"", flag, "\"401\"", "} 8"];
        bed.counts(node, &line).await;
    }
}

#[tokio::test]
async fn a_client_is_told_what_is_wrong_with_its_token() {
    let mut bed = Bed::new();
    let served = served(&mut bed, "node-2").await;
    bed.authorize(&served.server, vec![Issuer::new().authentication()]);
    for to in served.addresses {
        let mut connection = Client::connect(&served.client, to).await;
        let invalid = ask(&mut connection, Some("invalidToken"), "/").await;
        assert_eq!(invalid.status, 401, "{to}");
        assert_eq!(invalid.headers["x-weft-reason"], "INVALID_TOKEN");
        let challenge =
            "Bearer error=\"invalid_token\", error_description=\"the token is malformed\"";
        assert_eq!(invalid.headers["www-authenticate"], challenge);
    }
}

#[tokio::test]
async fn no_token_of_somebody_elses_making_reaches_the_application() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let (issuer, other) = (Issuer::new(), Issuer::new());
        bed.authorize(&served.server, vec![issuer.authentication()]);
        let unsigned = format!("{}.", message(&json!({ "alg": "none" }), &claims()));
        let public = hmac::Key::new(hmac::HMAC_SHA256, issuer.0.public_key().as_ref());
        let confused = message(&json!({ "alg": "HS256", "kid": "one" }), &claims());
        let mac = hmac::sign(&public, confused.as_bytes());
        let confused = format!("{confused}.{}", encoded(mac));
        let oversized = issuer.token(&with("x", json!("x".repeat(13_000))));
        let es256 = |kid: &str| json!({ "alg": "ES256", "kid": kid });
        let refused = [
            ("none", unsigned),
            ("HS/RS confusion", confused),
            ("wrong kid", issuer.signed(&es256("two"), &claims())),
            ("wrong key", other.token(&claims())),
            (
                "critical",
                issuer.signed(&json!({ "alg": "ES256", "crit": ["x"] }), &claims()),
            ),
            ("expired", issuer.token(&with("exp", json!(now() - 100)))),
            (
                "not yet valid",
                issuer.token(&with("nbf", json!(now() + 100))),
            ),
            ("other audience", issuer.token(&with("aud", json!("bank")))),
            (
                "other issuer",
                issuer.token(&with("iss", json!("somebody"))),
            ),
            ("oversized", oversized),
        ];
        for to in served.addresses {
            let mut connection = Client::connect(&served.client, to).await;
            let valid = issuer.token(&claims());
            assert_eq!(ask(&mut connection, Some(&valid), "/").await.status, 200);
            let before = served.web.count();
            for (what, token) in &refused {
                let answer = ask(&mut connection, Some(token), "/").await;
                assert_eq!(answer.status, 401, "{node} {to} {what}");
                assert!(answer.headers.contains_key("www-authenticate"), "{what}");
            }
            let twice = format!("/?access_token={valid}");
            assert_eq!(ask(&mut connection, Some(&valid), &twice).await.status, 401);
            assert_eq!(served.web.count(), before, "{node} {to}");
        }
    }
}

#[tokio::test]
async fn the_application_gets_the_claims_and_nothing_that_looks_like_them() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let issuer = Issuer::new();
        // A policy sees what the application will.
        let spoofed = Rule {
            when: vec![HeaderMatch {
                name: HeaderName::from_static("x-jwt-sub"),
                values: Values::any_of(["admin".parse().unwrap()]),
            }],
            ..Rule::default()
        };
        let deny = policy("deny-admin", Action::Deny, vec![spoofed]);
        bed.authorize(&served.server, vec![issuer.authentication(), deny]);
        let valid = issuer.token(&claims());
        for to in served.addresses {
            let mut connection = Client::connect(&served.client, to).await;
            for (token, query, subject) in [
                (None, "/p?a=b".to_owned(), None),
                (Some(&valid), "/p?a=b".to_owned(), Some(ISSUER)),
                (None, format!("/p?a=b&access_token={valid}"), Some(ISSUER)),
            ] {
                let mut request = request(&query)
                    .header("x-jwt-sub", "admin")
                    .header("X-JWT-Sub", "admin")
                    .header("x_jwt_sub", "admin");
                if let Some(token) = token {
                    request = request.header(AUTHORIZATION, format!("Bearer {token}"));
                }
                let answer = connection.ask(request.body(Full::default()).unwrap()).await;
                assert_eq!(answer.status, 200, "{node} {to}");
                let got = served.web.last();
                let subjects: Vec<_> = got.headers().get_all("x-jwt-sub").iter().collect();
                assert_eq!(
                    subjects,
                    subject.into_iter().collect::<Vec<_>>(),
                    "{node} {to}"
                );
                assert!(!got.headers().contains_key("x_jwt_sub"), "{node} {to}");
                assert!(!got.headers().contains_key(AUTHORIZATION), "{node} {to}");
                assert_eq!(got.uri().to_string(), "/p?a=b", "{node} {to}");
            }
        }
    }
}

#[tokio::test]
async fn streams_of_http2_and_calls_of_grpc_bring_tokens_too() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let issuer = Issuer::new();
        bed.authorize(&served.server, vec![issuer.authentication()]);
        let valid = issuer.token(&claims());
        for to in served.addresses {
            let mut sender = connect_http2(&served.client, to).await;
            for (token, grpc, status, grpc_status) in [
                (&*valid, false, 200, None),
                ("x", false, 401, None),
                (&*valid, true, 200, None),
                ("x", true, 200, Some("16")),
                (&*valid, false, 200, None),
            ] {
                let mut request = Request::post("http://web/shop.Cart/Add")
                    .header(AUTHORIZATION, format!("Bearer {token}"));
                if grpc {
                    request = request.header("content-type", "application/grpc");
                }
                let request = request.body(Full::from("\0\0\0\0\0")).unwrap();
                let response = in_time(sender.send_request(request)).await.unwrap();
                assert_eq!(response.status(), status, "{node} {to} {token}");
                let got = response.headers().get("grpc-status");
                assert_eq!(got.map(|status| status.to_str().unwrap()), grpc_status);
                response.into_body().collect().await.unwrap();
            }
            let got = served.web.last();
            assert_eq!(got.headers()["x-jwt-sub"], ISSUER, "{node} {to}");
        }
    }
}

#[tokio::test]
async fn without_keys_no_token_is_valid_and_new_keys_count_at_once() {
    let mut bed = Bed::new();
    let served = served(&mut bed, "node-2").await;
    let (old, new) = (Issuer::new(), Issuer::new());
    let [to, _] = served.addresses;
    let without = JwtProvider {
        keys: vec![],
        ..old.provider()
    };
    bed.authorize(&served.server, vec![authentication(without)]);
    let mut connection = Client::connect(&served.client, to).await;
    let token = old.token(&claims());
    assert_eq!(ask(&mut connection, Some(&token), "/").await.status, 401);
    bed.authorize(&served.server, vec![old.authentication()]);
    assert_eq!(ask(&mut connection, Some(&token), "/").await.status, 200);
    bed.authorize(&served.server, vec![new.authentication()]);
    assert_eq!(ask(&mut connection, Some(&token), "/").await.status, 401);
    let token = new.token(&claims());
    assert_eq!(ask(&mut connection, Some(&token), "/").await.status, 200);
}

/// Sends the head of a request for a websocket with a token; the status of the response.
async fn upgrade(stream: &mut TcpStream, token: &str) -> String {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: web\r\nAuthorization: Bearer {token}\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8_lossy(&head);
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_websocket_ends_when_its_token_would_not_be_taken_any_more() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let to = application(&server, switches).await;
        let endpoints = [(to.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", to.port(), &endpoints);
        let issuer = Issuer::new();
        let require = from_principal(Values::any_of(["*"]));
        let require = policy("require", Action::Allow, vec![require]);
        for to in [to, service] {
            bed.authorize(&server, vec![issuer.authentication(), require.clone()]);
            let mut stream = client.connect(to).await.unwrap();
            let token = issuer.token(&claims());
            assert_eq!(upgrade(&mut stream, &token).await, "101", "{node} {to}");
            assert_eq!(exchange(&mut stream, "before").await, "before");
            let other = policy("other", Action::Deny, vec![to_paths(&["/other"])]);
            let policies = vec![issuer.authentication(), require.clone(), other];
            bed.authorize(&server, policies);
            assert_eq!(exchange(&mut stream, "still").await, "still");
            let rotated = Issuer::new().authentication();
            bed.authorize(&server, vec![rotated, require.clone()]);
            ends(stream).await;
        }
    }
}

#[tokio::test]
async fn where_nobody_sees_requests_nothing_gets_past_an_authentication() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let to = application(&server, echo).await;
        let issuer = Issuer::new();
        bed.authorize(&server, vec![issuer.authentication()]);
        assert!(!is_let_in(&client, to).await, "{node}");
        let mut elsewhere = issuer.authentication();
        let other_port = if to.port() == 8080 { 8081 } else { 8080 };
        elsewhere.authentication.as_mut().unwrap().ports = vec![other_port];
        bed.authorize(&server, vec![elsewhere]);
        assert!(is_let_in(&client, to).await, "{node}");
    }
}
