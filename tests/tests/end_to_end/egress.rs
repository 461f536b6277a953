//! What is outside the cluster: who may reach it, and what becomes of connections there.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use weft_testing::authority::Authority;
use weft_testing::tcp::serve_on_thread;
use weft_testing::tls::web_server;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::netns::Namespace;
use weft_tests::wait_until;

use super::{LIMIT, address, addresses, curl, serve_web, shop};

/// A web server's answer, in the form that the tests' own servers have.
pub(crate) const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 38\r\nConnection: close\r\n\r\n\
    {\"name\":\"fabric\",\"peer\":\"10.99.0.1:1\"}";

/// Where the fabric is, which is no pod, no service and no node.
pub(crate) fn fabric(mesh: &Mesh, port: u16) -> SocketAddr {
    (mesh.topology().fabric().ipv4(), port).into()
}

/// Serves on the fabric; inside TLS when there is an acceptor.
fn serve_outside(mesh: &Mesh, port: u16, tls: Option<TlsAcceptor>) -> SocketAddr {
    let address = fabric(mesh, port);
    serve(mesh.topology().fabric().namespace(), address, tls, ANSWER);
    address
}

/// Answers requests at an address of a namespace, on a thread of its own for as long as
/// the test runs.
pub(crate) fn serve(
    namespace: &Namespace,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    text: &'static str,
) {
    let listener = namespace.run(|| std::net::TcpListener::bind(address));
    serve_on_thread(listener.unwrap().unwrap(), move |stream| {
        let tls = tls.clone();
        async move {
            // Clients that go away are what the tests are about.
            let _ = answer_to(stream, tls, text).await;
        }
    });
}

async fn answer_to(
    mut stream: TcpStream,
    tls: Option<TlsAcceptor>,
    text: &str,
) -> std::io::Result<()> {
    match tls {
        None => answer(&mut stream, text).await,
        Some(tls) => answer(&mut tls.accept(stream).await?, text).await,
    }
}

async fn answer<S>(stream: &mut S, text: &str) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// TLS as a server of that name speaks it.
pub(crate) fn acceptor(authority: &Authority, name: &str) -> TlsAcceptor {
    TlsAcceptor::from(web_server(authority, name))
}

fn registered_only(mesh: &Mesh, only: bool) {
    let mode = if only { "RegisteredOnly" } else { "AllowAny" };
    let annotations = json!({ "weft.dev/egress-mode": mode });
    let manifests = mesh.manifests();
    manifests.write_namespace("default", &annotations).unwrap();
}

fn external(mesh: &Mesh, spec: &Value) {
    let manifests = mesh.manifests();
    manifests.write_external_service("fabric", spec).unwrap();
}

fn wait_reached(mesh: &Mesh, to: SocketAddr, reached: bool) {
    let what = format!("{to} to be {}", if reached { "reached" } else { "refused" });
    wait_until(&what, LIMIT, || curl(mesh, "client", to).is_ok() == reached).unwrap();
}

#[test]
fn only_what_is_registered_is_reached_where_a_namespace_says_so() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    let (known, unknown) = (
        serve_outside(&mesh, 8080, None),
        serve_outside(&mesh, 8081, None),
    );
    assert_eq!(curl(&mesh, "client", unknown).unwrap().name, "fabric");

    registered_only(&mesh, true);
    wait_reached(&mesh, unknown, false);
    // The first that failed may have been open already, and cut: this one is new.
    assert!(curl(&mesh, "client", unknown).is_err());
    let denied = mesh.wait_record(1, |record| record.flags == "EGRESS_DENIED");
    let denied = denied.unwrap();
    assert_eq!(denied.original_destination, Some(unknown), "{denied:#?}");
    assert_eq!((denied.bytes_sent, denied.bytes_received), (0, 0));
    let metrics = mesh.agent_get(1, "/metrics").unwrap();
    assert!(
        metrics.contains("response_flags=\"EGRESS_DENIED\""),
        "{metrics}"
    );
    // Services and pods are the cluster's own, captured or not.
    let service = "10.96.0.10:80".parse().unwrap();
    for to in [
        service,
        address(&mesh, "web-2", 8080),
        address(&mesh, "outside", 8080),
    ] {
        curl(&mesh, "client", to).unwrap();
    }

    external(
        &mesh,
        &json!({
            "hosts": ["fabric.example"], "addresses": [known.ip()],
            "ports": [{ "number": 8080, "protocol": "HTTP" }],
        }),
    );
    wait_reached(&mesh, known, true);
    assert!(curl(&mesh, "client", unknown).is_err(), "another port");
    mesh.manifests().remove("external-fabric").unwrap();
    wait_reached(&mesh, known, false);
    registered_only(&mesh, false);
    wait_reached(&mesh, unknown, true);
}

#[test]
fn plaintext_to_an_external_service_leaves_as_tls_and_only_to_whom_it_was_meant_for() {
    let mesh = shop().start().unwrap();
    let authority = Authority::new();
    let acceptor = acceptor(&authority, "fabric.example");
    let server = serve_outside(&mesh, 8443, Some(acceptor));
    let dialled = fabric(&mesh, 8080);
    let service = |host: &str| {
        json!({
            "hosts": [host], "addresses": [server.ip()],
            "ports": [{ "number": 8080, "protocol": "TCP", "targetPort": 8443 }],
            "tls": { "mode": "Originate", "caCertificates": authority.root_pem() },
        })
    };
    external(&mesh, &service("fabric.example"));
    wait_reached(&mesh, dialled, true);
    let record = mesh
        .wait_record(1, |record| record.security == "tls")
        .unwrap();
    assert_eq!(
        (&*record.path, &*record.flags),
        ("outside", "-"),
        "{record:#?}"
    );
    assert_eq!(record.destination_address, Some(server), "{record:#?}");
    external(&mesh, &service("elsewhere.example"));
    wait_reached(&mesh, dialled, false);
    let refused = mesh.wait_record(1, |record| record.flags == "TLS_FAILURE");
    let reason = refused.unwrap().error.unwrap();
    assert!(reason.contains("elsewhere.example"), "{reason}");
}

/// Whom a web server sees when curl asks it, which binds `source` where there is one.
fn peer_seen(mesh: &Mesh, to: SocketAddr, source: Option<IpAddr>) -> IpAddr {
    let (url, source) = (format!("http://{to}/"), source.map(|ip| ip.to_string()));
    let mut line = vec!["curl", "-sS", "--fail", "--max-time", "15", &url];
    line.extend(source.iter().flat_map(|source| ["--interface", source]));
    let body: Value = serde_json::from_str(&mesh.run("client", &line).unwrap()).unwrap();
    let peer: SocketAddr = body["peer"].as_str().unwrap().parse().unwrap();
    peer.ip().to_canonical()
}

#[test]
fn a_source_that_the_application_has_bound_is_the_one_outside_the_mesh() {
    let services = ["10.96.0.20", "fd00:10:96::20"];
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("outside", 2).outside().label("app", "web"))
        .http_service("web", &services, "web", &[(80, 8080)])
        .start()
        .unwrap();
    serve_web(&mut mesh, &["outside"]);
    let second = ["10.244.1.200", "fd00:10:244:1::200"];
    let client = &mesh.pod("client").unwrap().host;
    let (own, node) = (client.addresses(), mesh.topology().node(1).unwrap());
    // By way of the address that the node has a route for.
    let routes = [0, 1].map(|family| format!("route add {} via {}", second[family], own[family]));
    node.host.namespace().ip(&routes).unwrap();
    let added = second.map(|address| format!("addr add {address} dev eth0"));
    client.namespace().ip(&added).unwrap();
    let [second, services] = [second, services].map(|texts| texts.map(|ip| ip.parse().unwrap()));
    let pods = addresses(&mesh, "outside", 8080);
    for (family, own) in own.into_iter().enumerate() {
        let bound = second[family];
        for to in [pods[family], SocketAddr::new(services[family], 80)] {
            // Requests to the Service share connections: not with those of another source.
            for source in [Some(bound), None, Some(bound)] {
                assert_eq!(peer_seen(&mesh, to, source), source.unwrap_or(own), "{to}");
            }
        }
    }
}
