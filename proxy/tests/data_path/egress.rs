//! What is outside the mesh: external services, TLS that begins at the proxy, and who may
//! leave at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_model::Change;
use weft_model::egress::EgressMode;
use weft_model::external::{ExternalPort, ExternalProtocol, ExternalService, TlsOrigination};
use weft_model::service::{Endpoint, EndpointKey};
use weft_model::workload::Workload;
use weft_testing::authority::Authority;
use weft_testing::fixtures::named;
use weft_testing::tcp::{self, echo, exchange, fresh_address};
use weft_testing::tls;
use weft_testing::wait::{DEADLINE, in_time};

use crate::bed::{Bed, Pod};

/// A server outside the mesh.
async fn outside<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    tcp::serve(tcp::listen().await, serve)
}

/// A server outside the mesh that echoes inside TLS, as somebody of that name.
async fn outside_by_tls(authority: &Authority, name: &str) -> SocketAddr {
    let acceptor = TlsAcceptor::from(tls::web_server(authority, name));
    outside(move |stream| {
        let accepting = acceptor.accept(stream);
        async move {
            // Clients may be refused.
            if let Ok(stream) = accepting.await {
                echo(stream).await;
            }
        }
    })
    .await
}

/// An external service with one port, for the clients of these tests.
fn external(host: &str, port: u16, protocol: ExternalProtocol, to: SocketAddr) -> ExternalService {
    ExternalService {
        key: named("external"),
        is_mesh_wide: false,
        hosts: vec![host.parse().unwrap()],
        addresses: Vec::new(),
        ports: vec![ExternalPort {
            name: "".into(),
            number: port,
            protocol,
            target_port: to.port(),
        }],
        endpoints: Vec::new(),
        tls: None,
    }
}

fn at(address: SocketAddr, service: ExternalService) -> ExternalService {
    let addresses = vec![address.ip().to_string().parse().unwrap()];
    ExternalService {
        addresses,
        ..service
    }
}

fn registered_only(bed: &Bed, pod: &Pod) {
    bed.tell(&Change::Workload(Workload {
        egress_mode: EgressMode::RegisteredOnly,
        ..Workload::clone(&pod.workload)
    }));
}

/// Whether nothing comes back from there.
async fn is_refused(client: &Pod, to: SocketAddr) -> bool {
    let answered = async {
        let mut stream = client.connect(to).await?;
        stream.write_all(b"hello").await?;
        stream.read(&mut [0; 1]).await
    };
    let read = tokio::time::timeout(DEADLINE, answered).await;
    !matches!(read.expect("neither answered nor refused"), Ok(1..))
}

#[tokio::test]
async fn plaintext_to_an_external_service_leaves_as_tls() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let server = outside_by_tls(&bed.authority, "pay.example").await;
    let service = at(
        server,
        external("pay.example", 80, ExternalProtocol::Tcp, server),
    );
    bed.tell(&Change::ExternalService(ExternalService {
        tls: Some(Arc::new(TlsOrigination {
            roots: vec![bed.root()],
            ..Default::default()
        })),
        ..service
    }));
    for _ in 0..2 {
        let mut stream = client.connect((server.ip(), 80).into()).await.unwrap();
        assert_eq!(exchange(&mut stream, "hello").await, "hello");
        let open =
            serde_json::to_string(&bed.node("node-1").node.telemetry.connections().list()).unwrap();
        assert!(open.contains("\"security\":\"tls\""), "{open}");
        // The client's end reaches the server, and the server's the client.
        stream.shutdown().await.unwrap();
        let end = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1])).await;
        assert_eq!(end.unwrap().unwrap(), 0);
    }
    bed.counts("node-1", &["destination_service=\"pay.example\""])
        .await;
}

#[tokio::test]
async fn bulk_goes_through_originated_tls_whole() {
    const SIZE: usize = 8 << 20;
    // It is about bytes: TLS may take its time to begin.
    let mut bed = Bed::with(|settings| settings.connect_timeout = DEADLINE);
    let client = bed.pod("node-1", "client");
    let server = outside_by_tls(&bed.authority, "pay.example").await;
    let service = at(
        server,
        external("pay.example", 80, ExternalProtocol::Tcp, server),
    );
    let roots = vec![bed.root()];
    let tls = Some(Arc::new(TlsOrigination {
        roots,
        ..Default::default()
    }));
    bed.tell(&Change::ExternalService(ExternalService { tls, ..service }));
    let stream = client.connect((server.ip(), 80).into()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent: Vec<u8> = (0..SIZE)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let sending = sent.clone();
    tokio::spawn(async move {
        write.write_all(&sending).await.unwrap();
        write.shutdown().await.unwrap();
    });
    // Each part has the deadline, as all of them take as long as the machine is slow.
    let mut received = Vec::with_capacity(SIZE);
    while in_time(read.read_buf(&mut received)).await.unwrap() > 0 {}
    assert!(received == sent);
}

#[tokio::test]
async fn an_external_service_that_is_someone_else_gets_nothing() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let stranger = Authority::new();
    let good = bed.root();
    let mut refused = 0;
    for (what, authority, roots, names, goes) in [
        ("as it is", &bed.authority, vec![&good], vec![], true),
        ("another root", &stranger, vec![&good], vec![], false),
        (
            "another name wanted",
            &bed.authority,
            vec![&good],
            vec!["other.example"],
            false,
        ),
        (
            "one of its names wanted",
            &bed.authority,
            vec![&good],
            vec!["other.example", "pay.example"],
            true,
        ),
    ] {
        let server = outside_by_tls(authority, "pay.example").await;
        let service = external("pay.example", 80, ExternalProtocol::Tcp, server);
        let service = at(server, service);
        bed.tell(&Change::ExternalService(ExternalService {
            tls: Some(Arc::new(TlsOrigination {
                server_name: None,
                subject_alt_names: names.into_iter().map(Into::into).collect(),
                roots: roots.into_iter().cloned().collect(),
            })),
            ..service
        }));
        let to = (server.ip(), 80).into();
        assert_eq!(is_refused(&client, to).await, !goes, "{what}");
        refused += usize::from(!goes);
    }
    // Nor one that has a good certificate of another name, or speaks no TLS.
    let other = outside_by_tls(&bed.authority, "other.example").await;
    let plain = outside(echo).await;
    for server in [other, plain] {
        let service = external("pay.example", 80, ExternalProtocol::Tcp, server);
        let service = at(server, service);
        let roots = vec![bed.root()];
        let tls = Some(Arc::new(TlsOrigination {
            roots,
            ..Default::default()
        }));
        bed.tell(&Change::ExternalService(ExternalService { tls, ..service }));
        assert!(is_refused(&client, (server.ip(), 80).into()).await);
        refused += 1;
    }
    let counted = format!("response_flags=\"TLS_FAILURE\"}} {refused}");
    bed.counts("node-1", &[&counted]).await;
}

#[tokio::test]
async fn what_is_not_registered_is_refused_where_only_that_may_be_reached() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let (unknown, known, endpoint) = (
        outside(echo).await,
        outside(echo).await,
        outside(echo).await,
    );
    let peer = bed.pod("node-2", "peer");
    let pod = crate::application(&peer, echo).await;
    let service = at(
        known,
        external("known.example", known.port(), ExternalProtocol::Tcp, known),
    );
    bed.tell(&Change::ExternalService(service));
    let web = bed.service("web", endpoint.port(), &[(endpoint.ip(), None)]);
    // At first whatever it wants.
    let mut before = client.connect(unknown).await.unwrap();
    assert_eq!(exchange(&mut before, "before").await, "before");
    let mut registered = client.connect(known).await.unwrap();
    assert_eq!(exchange(&mut registered, "before").await, "before");

    registered_only(&bed, &client);
    assert!(is_refused(&client, unknown).await);
    assert!(
        is_refused(&client, (known.ip(), 9).into()).await,
        "a port that is not declared"
    );
    bed.counts("node-1", &["response_flags=\"EGRESS_DENIED\"} 2"])
        .await;
    // An endpoint that is no pod is the cluster's own, such as an API server.
    for to in [known, web, endpoint, pod] {
        let mut stream = client.connect(to).await.unwrap();
        assert_eq!(exchange(&mut stream, "hello").await, "hello", "{to}");
    }
    // But none of its other ports is, nor is it while it isn't ready.
    let (other, failing) = (outside(echo).await, outside(echo).await);
    let also_failing = bed.service("failing", failing.port(), &[(failing.ip(), None)]);
    let key = EndpointKey {
        service: named("failing"),
        address: failing.ip(),
    };
    bed.tell(&Change::Endpoint(Endpoint {
        ports: vec![(also_failing.port(), failing.port())],
        ..Endpoint::new(key)
    }));
    for to in [(endpoint.ip(), other.port()).into(), failing] {
        assert!(is_refused(&client, to).await, "{to}");
    }
    // What was open and may not be any more is cut, all else stays.
    let end = tokio::time::timeout(DEADLINE, before.read(&mut [0; 1])).await;
    assert!(!matches!(end.unwrap(), Ok(1..)));
    assert_eq!(exchange(&mut registered, "after").await, "after");
}

/// What an echo inside TLS answers, when it proves that name.
async fn by_name(bed: &Bed, client: &Pod, to: SocketAddr, name: &'static str) -> Option<Vec<u8>> {
    let connector = TlsConnector::from(tls::web_client(&bed.authority));
    let answered = async {
        let stream = client.connect(to).await.ok()?;
        let mut stream = connector
            .connect(name.try_into().unwrap(), stream)
            .await
            .ok()?;
        stream.write_all(b"hello").await.ok()?;
        let mut answer = vec![0; 5];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer)
    };
    let answer = tokio::time::timeout(DEADLINE, answered).await;
    answer.expect("neither answered nor refused")
}

#[tokio::test]
async fn an_external_service_is_known_by_its_server_name_and_is_where_it_says() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let server = outside_by_tls(&bed.authority, "a.pay.example").await;
    // Nobody is there: whoever asks for the name doesn't need the address.
    let dialled = SocketAddr::from((fresh_address(), 443));
    bed.tell(&Change::ExternalService(ExternalService {
        endpoints: vec![server.ip()],
        ..external("*.pay.example", 443, ExternalProtocol::Tls, server)
    }));
    registered_only(&bed, &client);
    let answer = by_name(&bed, &client, dialled, "a.pay.example").await;
    assert_eq!(answer.as_deref(), Some(&b"hello"[..]));
    // A good name does not open the door to a bad one, nor to none.
    assert_eq!(by_name(&bed, &client, dialled, "pay.example").await, None);
    assert!(is_refused(&client, dialled).await);
    bed.counts("node-1", &["response_flags=\"EGRESS_DENIED\"} 2"])
        .await;
}

#[tokio::test]
async fn an_external_service_without_endpoints_is_where_dns_says() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let acceptor = TlsAcceptor::from(tls::web_server(&bed.authority, "localhost"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    bed.tell(&Change::ExternalService(external(
        "localhost",
        443,
        ExternalProtocol::Https,
        server,
    )));
    registered_only(&bed, &client);
    // Whatever address a client claims that the name has.
    let elsewhere = outside_by_tls(&bed.authority, "localhost").await;
    let dialled = (elsewhere.ip(), 443).into();
    let answer = by_name(&bed, &client, dialled, "localhost").await;
    assert_eq!(answer.as_deref(), Some(&b"hello"[..]));
    assert!(client.dials(server.port()) >= 1);
    assert_eq!(client.dials(443), 0, "not to where the client dialled");
}

#[tokio::test]
async fn a_plaintext_request_is_known_by_its_host_and_leaves_as_tls() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let server = outside_by_tls(&bed.authority, "pay.example").await;
    bed.tell(&Change::ExternalService(ExternalService {
        endpoints: vec![server.ip()],
        tls: Some(Arc::new(TlsOrigination {
            roots: vec![bed.root()],
            ..Default::default()
        })),
        ..external("pay.example", 80, ExternalProtocol::Http, server)
    }));
    registered_only(&bed, &client);
    let dialled = SocketAddr::from((fresh_address(), 80));
    let request = "GET / HTTP/1.1\r\nHost: pay.example\r\n\r\n";
    let mut stream = client.connect(dialled).await.unwrap();
    assert_eq!(exchange(&mut stream, request).await, request);
    let mut stream = client.connect(dialled).await.unwrap();
    let _ = stream
        .write_all(request.replace("pay", "bay").as_bytes())
        .await;
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1])).await;
    assert!(!matches!(read.unwrap(), Ok(1..)));
    bed.counts("node-1", &["response_flags=\"EGRESS_DENIED\"} 1"])
        .await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_where_clients_of_others_do() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let server = outside(async |mut stream: TcpStream| {
        stream.write_all(b"220 ready").await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let nobody = SocketAddr::from((IpAddr::from(fresh_address()), 443));
    bed.tell(&Change::ExternalService(external(
        "pay.example",
        server.port(),
        ExternalProtocol::Tls,
        nobody,
    )));
    let mut stream = client.connect(server).await.unwrap();
    let mut greeting = [0; 9];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut greeting)).await;
    read.unwrap().unwrap();
    assert_eq!(&greeting, b"220 ready");
}
