//! AuthorizationPolicies on the receiving side: connections by every way in, requests of every
//! kind, and what becomes of both when policies change.

mod requests;
mod tricks;
mod under_way;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::NamespacedName;
use weft_model::authorization_policy::{
    Action, AuthorizationPolicy, OperationMatch, Rule, ServiceAccount, SourceMatch, Values,
};
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT};
use weft_testing::authority::Leaf;
use weft_testing::fixtures::identity;
use weft_testing::hbone::{self, Tunnel};
use weft_testing::tcp::{echo, exchange};
use weft_testing::wait::{DEADLINE, in_time};

use super::application;
use super::bed::{Bed, Pod};

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        key: NamespacedName::new("default", name),
        action,
        is_dry_run: false,
        rules,
    }
}

/// A rule for what a ServiceAccount of the namespace `default` sends.
fn from_account(name: &str) -> Rule {
    let account = ServiceAccount {
        namespace: "default".into(),
        name: name.into(),
    };
    Rule {
        from: vec![SourceMatch {
            service_accounts: Values::any_of([account]),
            ..SourceMatch::default()
        }],
        ..Rule::default()
    }
}

fn from_namespace(name: &str) -> Rule {
    Rule {
        from: vec![SourceMatch {
            namespaces: Values::any_of([name.parse().unwrap()]),
            ..SourceMatch::default()
        }],
        ..Rule::default()
    }
}

fn from_addresses(block: &str) -> Rule {
    Rule {
        from: vec![SourceMatch {
            addresses: Values::any_of([block.parse().unwrap()]),
            ..SourceMatch::default()
        }],
        ..Rule::default()
    }
}

fn to_operation(operation: OperationMatch) -> Rule {
    Rule {
        to: vec![operation],
        ..Rule::default()
    }
}

fn to_paths(paths: &[&str]) -> Rule {
    to_operation(OperationMatch {
        paths: Values::any_of(paths.iter().map(|path| path.parse().unwrap())),
        ..OperationMatch::default()
    })
}

fn to_methods(methods: &[&str]) -> Rule {
    to_operation(OperationMatch {
        methods: Values::any_of(methods.iter().map(|method| method.parse().unwrap())),
        ..OperationMatch::default()
    })
}

/// What is answered to a byte; nothing when the connection is refused.
async fn answered(connected: std::io::Result<TcpStream>) -> Option<TcpStream> {
    // A reset may come as early as this.
    let mut stream = connected.ok()?;
    let asked = async {
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await
    };
    let answer = tokio::time::timeout(DEADLINE, asked).await;
    answer.expect("no answer in time").ok().map(|_| stream)
}

async fn is_let_in(client: &Pod, to: SocketAddr) -> bool {
    answered(client.connect(to).await).await.is_some()
}

/// The connection ends without another byte.
async fn ends(mut stream: TcpStream) {
    let read = in_time(stream.read(&mut [0])).await;
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

/// A line of a node's metrics about that many connections that policies refused.
async fn refused(bed: &Bed, node: &str, reporter: &str, count: usize) {
    let reporter = format!("reporter=\"{reporter}\"");
    let count = format!("}} {count}");
    let parts = [
        "istio_tcp_connections_failed_total{",
        &reporter,
        "response_flags=\"AUTHORIZATION_DENIED\"",
        &count,
    ];
    bed.counts(node, &parts).await;
}

#[tokio::test]
async fn a_connection_of_a_wrong_identity_or_namespace_is_refused_by_tunnel_and_on_the_same_node() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, other) = (bed.pod("node-1", "client"), bed.pod("node-1", "other"));
        let namesake = "spiffe://cluster.local/ns/elsewhere/sa/client";
        let namesake = bed.pod_of("node-1", namesake.parse().unwrap());
        let server = bed.pod(node, "server");
        let to = application(&server, echo).await;
        let endpoints = [(to.ip(), Some(&server))];
        let service = bed.service("web", to.port(), &endpoints);
        let allowed = policy("allow-client", Action::Allow, vec![from_account("client")]);
        bed.authorize(&server, vec![allowed]);
        for to in [to, service] {
            assert!(is_let_in(&client, to).await, "{node} {to}");
            assert!(!is_let_in(&other, to).await, "{node} {to}");
            assert!(!is_let_in(&namesake, to).await, "{node} {to}");
        }
        // The client's proxy knows why, too.
        refused(&bed, node, "destination", 2).await;
        refused(&bed, "node-1", "source", 1).await;
        // Only what was let in was connected.
        assert_eq!(server.dials(to.port()), 2, "{node}");
    }
}

#[tokio::test]
async fn a_denied_namespace_is_refused_whatever_else_is_allowed() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let client = bed.pod("node-1", "client");
        let denied = "spiffe://cluster.local/ns/denied/sa/client".parse();
        let denied = bed.pod_of("node-1", denied.unwrap());
        let server = bed.pod(node, "server");
        let to = application(&server, echo).await;
        let policies = vec![
            policy("allow-all", Action::Allow, vec![Rule::default()]),
            policy("deny", Action::Deny, vec![from_namespace("denied")]),
        ];
        bed.authorize(&server, policies);
        assert!(is_let_in(&client, to).await, "{node}");
        assert!(!is_let_in(&denied, to).await, "{node}");
    }
}

#[tokio::test]
async fn a_tunnel_is_decided_by_what_its_certificate_proves() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    let allowed = policy("allow-client", Action::Allow, vec![from_account("client")]);
    bed.authorize(&server, vec![allowed]);
    for (uri, expected) in [
        ("spiffe://cluster.local/ns/default/sa/client", Some(200)),
        ("spiffe://cluster.local/ns/default/sa/client2", Some(403)),
        ("spiffe://cluster.local/ns/default2/sa/client", Some(403)),
        // It isn't even heard.
        ("spiffe://elsewhere/ns/default/sa/client", None),
    ] {
        let presented = hbone::client(Some(&bed.authority.issue(&Leaf::uri(uri))));
        let tunnel = Tunnel::open(server.at(HBONE_PORT), presented, hbone::connect(to));
        let status = in_time(tunnel).await.map(|tunnel| tunnel.status.as_u16());
        assert_eq!(status.ok(), expected, "{uri}");
    }
}

#[tokio::test]
async fn a_pod_that_says_it_is_at_another_address_is_taken_at_its_own() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    let allowed = policy(
        "allow-address",
        Action::Allow,
        vec![from_addresses("10.0.0.1/32")],
    );
    bed.authorize(&server, vec![allowed]);
    let presented = bed.authority.workload(&identity("client"));
    let mut request = hbone::connect(to);
    let forged = "for=\"10.0.0.1:4000\"".parse().unwrap();
    request.headers_mut().insert("forwarded", forged);
    let tunnel = Tunnel::open(
        server.at(HBONE_PORT),
        hbone::client(Some(&presented)),
        request,
    );
    assert_eq!(in_time(tunnel).await.unwrap().status, 403);
}

#[tokio::test]
async fn plaintext_passes_what_needs_no_identity() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    *server.sockets.steered_for.lock().unwrap() = Some(to.port());
    let plaintext = async || {
        let connected = TcpStream::connect(server.at(INBOUND_PLAINTEXT_PORT)).await;
        answered(connected).await.is_some()
    };
    for (rule, expected) in [
        (from_account("client"), false),
        (from_namespace("default"), false),
        (from_namespace("*"), false),
        (from_addresses("127.0.0.0/8"), true),
        (from_addresses("10.0.0.0/8"), false),
    ] {
        let name = format!("{rule:?}");
        bed.authorize(&server, vec![policy("allow", Action::Allow, vec![rule])]);
        assert_eq!(plaintext().await, expected, "{name}");
    }
    refused(&bed, "node-1", "destination", 4).await;
    // An identity that nobody has proven may be the one that is denied.
    let denied = policy("deny", Action::Deny, vec![from_account("client")]);
    bed.authorize(&server, vec![denied]);
    assert!(!plaintext().await);
}

#[tokio::test]
async fn rules_about_requests_deny_what_is_carried_on_a_port_that_is_not_http() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let to = application(&server, echo).await;
        let allowed = policy("allow-get", Action::Allow, vec![to_methods(&["GET"])]);
        bed.authorize(&server, vec![allowed]);
        assert!(!is_let_in(&client, to).await, "{node}");
        assert_eq!(server.dials(to.port()), 0, "{node}");
    }
}

#[tokio::test]
async fn a_policy_that_comes_live_cuts_connections_and_one_that_goes_lets_in_again() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, other) = (bed.pod("node-1", "client"), bed.pod("node-1", "other"));
        let server = bed.pod(node, "server");
        let to = application(&server, echo).await;
        let mut kept = client.connect(to).await.unwrap();
        let mut cut = other.connect(to).await.unwrap();
        for stream in [&mut kept, &mut cut] {
            assert_eq!(exchange(stream, "before").await, "before");
        }
        let allowed = policy("allow-client", Action::Allow, vec![from_account("client")]);
        bed.authorize(&server, vec![allowed]);
        ends(cut).await;
        assert_eq!(exchange(&mut kept, "after").await, "after");
        let counted = [
            "istio_tcp_connections_closed_total{",
            "\"destination\"",
            "response_flags=\"POLICY_CHANGED\"",
        ];
        bed.counts(node, &counted).await;
        assert!(!is_let_in(&other, to).await, "{node}");
        bed.authorize(&server, vec![]);
        assert!(is_let_in(&other, to).await, "{node}");
    }
}

#[tokio::test]
async fn a_policy_whose_rules_have_not_arrived_admits_nothing_new_and_cuts_nothing() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let to = application(&server, echo).await;
        let mut kept = client.connect(to).await.unwrap();
        assert_eq!(exchange(&mut kept, "before").await, "before");
        let allowed = policy("allow-client", Action::Allow, vec![from_account("client")]);
        bed.authorize(&server, vec![allowed.clone()]);
        let removed = weft_model::Change::AuthorizationPolicyRemoved(allowed.key.clone());
        bed.tell(&removed);
        assert!(!is_let_in(&client, to).await, "{node}");
        assert_eq!(exchange(&mut kept, "after").await, "after");
        bed.authorize(&server, vec![allowed]);
        assert!(is_let_in(&client, to).await, "{node}");
    }
}

#[tokio::test]
async fn a_pod_that_the_mesh_forgets_decides_by_the_last_policies_that_it_had() {
    let mut bed = Bed::new();
    let server = bed.pod("node-1", "server");
    let to = application(&server, echo).await;
    *server.sockets.steered_for.lock().unwrap() = Some(to.port());
    let plaintext = || TcpStream::connect(server.at(INBOUND_PLAINTEXT_PORT));
    let open = answered(plaintext().await).await.expect("no policy yet");
    let elsewhere = policy("allow", Action::Allow, vec![from_addresses("10.0.0.0/8")]);
    bed.authorize(&server, vec![elsewhere]);
    ends(open).await;
    let forgotten = server.workload.uid.clone();
    bed.tell(&weft_model::Change::WorkloadRemoved(forgotten));
    assert!(answered(plaintext().await).await.is_none());
}

#[tokio::test]
async fn what_is_audited_or_tried_is_let_through() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let to = application(&server, echo).await;
        let audited = policy("audit", Action::Audit, vec![Rule::default()]);
        let tried = AuthorizationPolicy {
            is_dry_run: true,
            ..policy("try", Action::Deny, vec![Rule::default()])
        };
        bed.authorize(&server, vec![audited, tried]);
        assert!(is_let_in(&client, to).await, "{node}");
    }
}
