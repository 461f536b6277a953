//! The page `/explain`: what the AuthorizationPolicies of a pod say of a connection or request.
//! It asks what the proxy asks, and changes nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use weft_admin::Answer;
use weft_model::authorization_policy::{
    AuthorizationMembership, AuthorizationPolicies, Decision, Reason, RequestAttributes, Source,
    Verdict,
};
use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::request_authentication::{Claims, JwtProvider};
use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{Mesh, SpiffeId};

use crate::http::percent::decoded;
use crate::jwt::read_claims;
use crate::node::Node;

/// How to ask.
const USAGE: &str = "\
ask with ?destination=NAMESPACE/POD&port=PORT, where the destination may be a pod's UID or address, \
too, and add what you know of the client (source=SPIFFE_ID, address=IP) and of its request \
(method=GET, path=/, host=NAME, header=NAME:VALUE, as many as there are; claims=JSON, the payload of \
its token)
";

/// A question that can't be answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum InvalidQuestion {
    #[error("{}", USAGE)]
    Nothing,
    #[error("`{0}` is nothing that can be asked about\n{usage}", usage = USAGE)]
    Unknown(String),
    #[error("`{value}` is no {key}\n{usage}", usage = USAGE)]
    Value { key: &'static str, value: String },
    #[error("there is no pod `{0}` in the mesh, as far as this proxy was told")]
    NoWorkload(String),
    #[error("pod `{pod}` is served elsewhere: ask the agent of node `{node}`, or its sidecar")]
    Elsewhere { pod: String, node: String },
}

/// A question about a connection, or one of its requests.
#[derive(Debug, Default)]
struct Question {
    destination: String,
    port: u16,
    source: Option<SpiffeId>,
    address: Option<IpAddr>,
    request: Option<AskedRequest>,
}

#[derive(Debug)]
struct AskedRequest {
    method: String,
    path: String,
    host: String,
    headers: HeaderMap,
    claims: Option<Claims>,
}

impl Default for AskedRequest {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: String::new(),
            headers: HeaderMap::new(),
            claims: None,
        }
    }
}

/// The page: of a node, or of the one pod that a sidecar serves.
pub(super) fn explain(node: &Node, only: Option<&WorkloadUid>, query: &str) -> Answer {
    let mesh = node.store.snapshot();
    match Question::parse(query).and_then(|question| answer(node, &mesh, only, &question)) {
        Ok(answer) => Answer::json(&answer),
        Err(error) => Answer::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn answer(
    node: &Node,
    mesh: &Mesh,
    only: Option<&WorkloadUid>,
    question: &Question,
) -> Result<Value, InvalidQuestion> {
    let workload = find(mesh, &question.destination)?;
    let is_served = *workload.node == *node.name && only.is_none_or(|only| workload.uid == *only);
    let Some(policies) = mesh
        .authorization_policies(&workload.uid)
        .filter(|_| is_served)
    else {
        return Err(InvalidQuestion::Elsewhere {
            pod: question.destination.clone(),
            node: workload.node.to_string(),
        });
    };
    let declared = mesh.declared_protocol(&workload.uid, question.port);
    let is_http = matches!(declared, DeclaredProtocol::Http | DeclaredProtocol::Http2);
    let source = Source {
        identity: question.source.as_ref(),
        address: question.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
    };
    let connection = policies.connection(&source, question.port);
    let connection = match is_http {
        true => connection,
        false => connection.without_requests(),
    };
    let request = question.request.as_ref().filter(|_| is_http);
    let request = request.map(|request| request.verdict(policies, &source, question.port));
    let issuers = policies.token_providers(question.port);
    let issuers: Vec<_> = issuers.map(|provider| describe_issuer(provider)).collect();
    let AuthorizationMembership {
        policies, default, ..
    } = &*workload.authorization;
    Ok(json!({
        "destination": {
            "uid": workload.uid.as_str(),
            "name": &*workload.name,
            "namespace": workload.namespace(),
            "port": question.port,
            "carries_http": is_http,
        },
        "policies": policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "default": default.as_str(),
        "issuers": issuers,
        "connection": describe(&connection),
        "request": request.as_ref().map(describe),
    }))
}

/// The pod of that name, UID or address.
fn find<'a>(mesh: &'a Mesh, named: &str) -> Result<&'a Arc<Workload>, InvalidQuestion> {
    let is_named = |workload: &&Arc<Workload>| {
        let name = named.split_once('/');
        name.is_some_and(|(namespace, name)| {
            workload.namespace() == namespace && *workload.name == *name
        })
    };
    let by_address = || mesh.workload_by_address(named.parse().ok()?);
    let found = mesh.workload(&WorkloadUid::from(named)).or_else(by_address);
    let found = found.or_else(|| mesh.workloads().find(is_named));
    found.ok_or_else(|| InvalidQuestion::NoWorkload(named.to_owned()))
}

impl AskedRequest {
    fn verdict<'a>(
        &self,
        policies: &'a AuthorizationPolicies,
        source: &Source<'_>,
        port: u16,
    ) -> Verdict<'a> {
        let path = self.path.split(['?', '#']).next();
        let attributes = RequestAttributes {
            method: &self.method,
            path: path.unwrap_or_default(),
            host: Some(&*self.host).filter(|host| !host.is_empty()),
            headers: &self.headers,
            claims: self.claims.as_ref(),
        };
        policies.request(source, port, &attributes)
    }
}

fn describe_issuer(provider: &JwtProvider) -> Value {
    json!({
        "issuer": &*provider.issuer,
        "audiences": provider.audiences.iter().map(|audience| &**audience).collect::<Vec<_>>(),
        "keys": provider.keys.len(),
    })
}

fn describe(verdict: &Verdict<'_>) -> Value {
    let audited = verdict.audited.iter();
    let audited = audited
        .map(|audited| json!({ "policy": audited.policy.to_string(), "rule": audited.rule }));
    let mut described = decided(verdict.decision, &verdict.reason);
    if let Value::Object(fields) = &mut described {
        let dry_run = verdict.dry_run.as_ref();
        let dry_run = dry_run.map(|dry_run| decided(dry_run.decision, &dry_run.reason));
        fields.insert("audited".to_owned(), audited.collect());
        fields.insert("dry_run".to_owned(), dry_run.unwrap_or_default());
    }
    described
}

fn decided(decision: Decision, reason: &Reason<'_>) -> Value {
    let decision = match decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
        Decision::DependsOnRequest => "depends_on_request",
    };
    let (policy, rule) = match reason {
        Reason::Rule { policy, rule } => (Some(policy.to_string()), Some(*rule)),
        Reason::NotArrived(policy) | Reason::Authentication(policy) => {
            (Some(policy.to_string()), None)
        }
        Reason::NoAllowRule | Reason::Default(_) => (None, None),
    };
    json!({
        "decision": decision,
        "reason": reason.to_string(),
        "policy": policy,
        "rule": rule,
    })
}

impl Question {
    fn parse(query: &str) -> Result<Self, InvalidQuestion> {
        let mut question = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            question.set(&decoded(key), decoded(value))?;
        }
        match question.destination.is_empty() || question.port == 0 {
            true => Err(InvalidQuestion::Nothing),
            false => Ok(question),
        }
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), InvalidQuestion> {
        match key {
            "destination" => self.destination = value,
            "port" => self.port = parsed("port", value)?,
            "source" => self.source = Some(parsed("source", value)?),
            "address" => self.address = Some(parsed("address", value)?),
            "method" => self.request().method = value,
            "path" => self.request().path = value,
            "host" => self.request().host = value.trim_end_matches('.').to_ascii_lowercase(),
            "header" => {
                let (name, content) = value.split_once(':').unwrap_or((value.as_str(), ""));
                let name = parsed::<HeaderName>("header", name.to_owned())?;
                let content = parsed::<HeaderValue>("header", content.trim().to_owned())?;
                self.request().headers.append(name, content);
            }
            "claims" => {
                let claims = read_claims(&value);
                let key = "claims";
                let claims = claims.ok_or(InvalidQuestion::Value { key, value })?;
                self.request().claims = Some(claims);
            }
            unknown => return Err(InvalidQuestion::Unknown(unknown.to_owned())),
        }
        Ok(())
    }

    fn request(&mut self) -> &mut AskedRequest {
        self.request.get_or_insert_default()
    }
}

fn parsed<T: FromStr>(key: &'static str, value: String) -> Result<T, InvalidQuestion> {
    let parsed = value.parse::<T>();
    parsed.map_err(|_| InvalidQuestion::Value { key, value })
}

#[cfg(test)]
mod tests {
    use weft_model::authorization_policy::{
        Action, AuthorizationPolicy, ClaimMatch, OperationMatch, Rule, Values,
    };
    use weft_model::mesh::Change;
    use weft_model::request_authentication::{ClaimPath, RequestAuthentication};
    use weft_testing::fixtures::{self, named};

    use super::*;
    use crate::component::Component;
    use crate::settings::Settings;

    /// A pod whose policies deny the paths below `/admin` on a port of HTTP.
    fn node() -> Node {
        let node = Node::new("node-1", Component::NodeAgent, Settings::default());
        let key = named("no-admin");
        let membership = AuthorizationMembership {
            policies: vec![key.clone()],
            ..AuthorizationMembership::default()
        };
        let server = Workload {
            authorization: Arc::new(membership),
            ..fixtures::workload("server", [10, 0, 0, 1], "node-1")
        };
        let elsewhere = fixtures::workload("other", [10, 0, 0, 2], "node-2");
        let to = OperationMatch {
            paths: Values::any_of(["/admin/*".parse().unwrap()]),
            ..OperationMatch::default()
        };
        let rule = Rule {
            to: vec![to],
            ..Rule::default()
        };
        node.store.apply([
            Change::Service(fixtures::service("web", [10, 96, 0, 1], "http")),
            Change::Endpoint(fixtures::endpoint(
                "web",
                [10, 0, 0, 1],
                8080,
                Some(&server.uid),
            )),
            Change::Workload(server),
            Change::Workload(elsewhere),
            Change::AuthorizationPolicy(AuthorizationPolicy {
                key,
                action: Action::Deny,
                is_dry_run: false,
                rules: vec![rule],
                authentication: None,
            }),
        ]);
        node
    }

    fn asked(query: &str) -> Result<Value, InvalidQuestion> {
        let node = node();
        let mesh = node.store.snapshot();
        answer(&node, &mesh, None, &Question::parse(query)?)
    }

    #[test]
    fn a_verdict_is_told_with_its_policy_and_rule() {
        for destination in ["default/server", "server", "10.0.0.1"] {
            let about = format!("destination={destination}&port=8080");
            let told = asked(&format!("{about}&path=%2Fadmin%2fusers&method=POST")).unwrap();
            assert_eq!(told["connection"]["decision"], "depends_on_request");
            assert_eq!(told["request"]["decision"], "denied");
            assert_eq!(told["request"]["policy"], "default/no-admin");
            assert_eq!(told["request"]["rule"], 0);
            assert_eq!(told["policies"], json!(["default/no-admin"]));
            let told = asked(&format!("{about}&path=/")).unwrap();
            assert_eq!(told["request"]["decision"], "allowed");
        }
    }

    #[test]
    fn claims_count_and_the_issuers_are_told() {
        let node = node();
        let key = named("no-admin");
        let rule = Rule {
            claims: vec![ClaimMatch {
                claim: ClaimPath::new(["groups"]).unwrap(),
                values: Values::any_of(["admin".parse().unwrap()]),
            }],
            ..Rule::default()
        };
        let allow = AuthorizationPolicy {
            key: key.clone(),
            action: Action::Allow,
            is_dry_run: false,
            rules: vec![rule],
            authentication: None,
        };
        let tokens = AuthorizationPolicy {
            key: named("tokens"),
            action: Action::Authenticate,
            rules: vec![],
            authentication: Some(RequestAuthentication {
                ports: vec![],
                providers: vec![Arc::new(JwtProvider {
                    issuer: "https://issuer.example".into(),
                    audiences: vec![],
                    algorithms: vec![],
                    keys: vec![],
                    key_source: None,
                    locations: vec![],
                    forwards_token: false,
                    claim_headers: vec![],
                    payload_header: None,
                })],
            }),
            ..allow.clone()
        };
        let membership = AuthorizationMembership {
            policies: vec![key, tokens.key.clone()],
            ..AuthorizationMembership::default()
        };
        let server = Workload {
            authorization: Arc::new(membership),
            ..fixtures::workload("server", [10, 0, 0, 1], "node-1")
        };
        let policies = [allow, tokens].map(Change::AuthorizationPolicy);
        node.store.apply(policies);
        node.store.apply([Change::Workload(server)]);
        let told = |claims: &str| {
            let query = format!("destination=server&port=8080&claims={claims}");
            let question = Question::parse(&query).unwrap();
            answer(&node, &node.store.snapshot(), None, &question).unwrap()
        };
        let allowed = told(r#"{"groups":["user","admin"]}"#);
        assert_eq!(allowed["request"]["decision"], "allowed");
        assert_eq!(allowed["issuers"][0]["issuer"], "https://issuer.example");
        assert_eq!(allowed["issuers"][0]["keys"], 0);
        assert_eq!(told("{}")["request"]["decision"], "denied");
    }

    #[test]
    fn on_a_port_that_is_not_http_nothing_is_told_of_requests() {
        let told = asked("destination=server&port=5432&path=/").unwrap();
        assert_eq!(told["connection"]["decision"], "denied");
        assert_eq!(told["request"], Value::Null);
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        for (query, expected) in [
            ("", "ask with ?destination="),
            ("destination=server", "ask with ?destination="),
            ("destination=server&port=x", "`x` is no port"),
            ("destination=server&port=80&source=me", "`me` is no source"),
            ("destination=server&port=80&who=me", "`who` is nothing"),
            ("destination=server&port=80&claims={", "`{` is no claims"),
            ("destination=nobody&port=80", "there is no pod `nobody`"),
            (
                "destination=other&port=80",
                "ask the agent of node `node-2`",
            ),
        ] {
            let error = asked(query).unwrap_err().to_string();
            assert!(
                error.starts_with(expected) || error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn a_sidecar_tells_of_its_own_pod_only() {
        let node = node();
        let other = WorkloadUid::from("other");
        let question = Question::parse("destination=server&port=8080").unwrap();
        let told = answer(&node, &node.store.snapshot(), Some(&other), &question);
        assert!(matches!(told, Err(InvalidQuestion::Elsewhere { .. })));
    }
}
