//! TCPRoutes and TLSRoutes: which backend a connection gets to, and which get to none.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_model::Change;
use weft_model::route::{Backend, BackendTarget, Route, RouteKey, RouteKind, Rule};
use weft_testing::fixtures::{self, named};
use weft_testing::tls;
use weft_testing::wait::DEADLINE;

use crate::application;
use crate::bed::{Bed, Pod};

/// A backend with a weight; one that leads nowhere without a name.
type Share = (Option<&'static str>, u32);

fn route(kind: RouteKind, name: &str, hostnames: &[&str], shares: &[Share]) -> Change {
    let invalid = BackendTarget::Invalid {
        reason: "Service default/none not found".into(),
    };
    let backends = shares.iter().map(|(service, weight)| match service {
        Some(service) => fixtures::backend(service, *weight),
        None => Backend {
            target: invalid.clone(),
            ..fixtures::backend("none", *weight)
        },
    });
    let rule = Rule {
        backends: backends.collect(),
        ..Rule::default()
    };
    Change::Route(Route {
        key: RouteKey {
            kind,
            name: named(name),
        },
        hostnames: hostnames.iter().map(|name| (*name).into()).collect(),
        ..fixtures::route(kind, "front", vec![rule])
    })
}

/// A pod that says its name to whoever connects, behind a service of that name.
async fn backend(bed: &mut Bed, node: &'static str, name: &'static str) -> Pod {
    let pod = bed.pod(node, name);
    let serve = async move |mut stream: TcpStream| {
        stream.write_all(name.as_bytes()).await.unwrap();
    };
    let port = application(&pod, serve).await.port();
    bed.service(name, port, &[(pod.address().into(), Some(&pod))]);
    pod
}

/// What the server at the other end says, nothing when the connection is refused.
async fn heard(connecting: std::io::Result<TcpStream>) -> String {
    let mut answer = String::new();
    // Refused while the connection is still being set up, or right after.
    let Ok(mut stream) = connecting else {
        return answer;
    };
    let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
    match read.expect("neither answered nor refused") {
        Ok(_) => answer,
        Err(_) => String::new(),
    }
}

async fn flagged(bed: &Bed, flag: &str, count: usize) {
    let (flag, count) = (format!("response_flags=\"{flag}\""), format!("}} {count}"));
    bed.counts("node-1", &[&flag, &count]).await;
}

#[tokio::test]
async fn a_tcp_route_shares_connections_by_weight_and_refuses_those_of_an_invalid_backend() {
    const CONNECTIONS: usize = 1000;
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let _a = backend(&mut bed, "node-1", "a").await;
    let _b = backend(&mut bed, "node-2", "b").await;
    // It has no endpoint of its own, and needs none.
    let front = bed.service("front", 1, &[]);
    let shares = [(Some("a"), 70), (Some("b"), 20), (None, 10)];
    bed.tell(&route(RouteKind::Tcp, "r", &[], &shares));
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..CONNECTIONS {
        let name = heard(client.connect(front).await).await;
        *seen.entry(name).or_default() += 1;
    }
    for (name, share) in [("a", 700), ("b", 200), ("", 100)] {
        let count = seen[name];
        assert!(count.abs_diff(share) <= CONNECTIONS / 100, "{seen:?}");
    }
    flagged(&bed, "NO_BACKEND", seen[""]).await;
}

/// A pod that ends TLS itself as `name` and says it inside, behind a service.
async fn tls_backend(bed: &mut Bed, service: &'static str, name: &'static str) -> Pod {
    let pod = bed.pod("node-2", service);
    let acceptor = TlsAcceptor::from(tls::web_server(&bed.authority, name));
    let serve = move |stream| {
        let accepting = acceptor.accept(stream);
        async move {
            if let Ok(mut stream) = accepting.await {
                let _ = stream.write_all(name.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    };
    let port = application(&pod, serve).await.port();
    bed.service(service, port, &[(pod.address().into(), Some(&pod))]);
    pod
}

/// What the server says that has a certificate for that name.
async fn asked(
    bed: &Bed,
    client: &Pod,
    to: SocketAddr,
    name: ServerName<'static>,
) -> Option<String> {
    let connector = TlsConnector::from(tls::web_client(&bed.authority));
    let answered = async {
        let stream = client.connect(to).await.ok()?;
        let mut stream = connector.connect(name, stream).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    tokio::time::timeout(DEADLINE, answered)
        .await
        .expect("neither answered nor refused")
}

#[tokio::test]
async fn a_tls_route_passes_connections_on_by_server_name_and_refuses_other_names() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let _any = tls_backend(&mut bed, "any", "x.example.org").await;
    let _one = tls_backend(&mut bed, "one", "one.example.org").await;
    let front = bed.service("front", 1, &[]);
    let kind = RouteKind::Tls;
    bed.tell(&route(kind, "any", &["*.example.org"], &[(Some("any"), 1)]));
    bed.tell(&route(
        kind,
        "one",
        &["one.example.org"],
        &[(Some("one"), 1)],
    ));
    for name in ["x.example.org", "one.example.org"] {
        let answer = asked(&bed, &client, front, name.try_into().unwrap()).await;
        assert_eq!(answer.as_deref(), Some(name));
    }
    let refused = ["example.org", "elsewhere.example", "192.0.2.1"];
    for name in refused {
        let answer = asked(&bed, &client, front, name.try_into().unwrap()).await;
        assert_eq!(answer, None, "{name}");
    }
    flagged(&bed, "NO_MATCHING_SNI", refused.len()).await;
}

#[tokio::test]
async fn what_is_no_tls_does_not_get_past_a_tls_route() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let _any = backend(&mut bed, "node-1", "any").await;
    let front = bed.service("front", 1, &[]);
    bed.tell(&route(RouteKind::Tls, "any", &[], &[(Some("any"), 1)]));
    let mut stream = client.connect(front).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(heard(Ok(stream)).await, "");
    flagged(&bed, "BAD_CLIENT_HELLO", 1).await;
    // Nor does one that says nothing, for longer than a handshake may take.
    assert_eq!(heard(client.connect(front).await).await, "");
    flagged(&bed, "CLIENT_HELLO_TIMEOUT", 1).await;
}
