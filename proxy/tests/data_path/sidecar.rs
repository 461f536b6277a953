//! A proxy as a second binary puts it together, a sidecar: one pod, whose sockets are the
//! process's own, from its start to its end. It has what [`weft_proxy::runtime`] offers, and
//! a control plane.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_model::Change;
use weft_model::ports::HBONE_PORT;
use weft_model::workload::{Enrolment, Workload};
use weft_proto::v1::CaptureState;
use weft_proxy::admin;
use weft_proxy::control_plane::ControlPlaneOptions;
use weft_proxy::discovery::PodCaptureState;
use weft_proxy::identity::IdentityInUse;
use weft_proxy::runtime::{Runtime, RuntimeOptions};
use weft_proxy::{PodProxy, Settings};
use weft_testing::authority::Authority;
use weft_testing::control_plane::{DiscoveryStream, FakeControlPlane, SERVER_NAME};
use weft_testing::fixtures::{identity, workload};
use weft_testing::hbone::{self, Tunnel, connect};
use weft_testing::resources::resource;
use weft_testing::tcp::{echo, exchange, fresh_address, listen, serve};
use weft_testing::wait::{DEADLINE, in_time};

use super::bed::HostSockets;

/// A sidecar that serves its pod.
struct Sidecar {
    runtime: Runtime,
    workload: Arc<Workload>,
    sockets: Arc<HostSockets>,
    proxy: PodProxy,
    /// Renews the pod's certificate while the pod is served.
    identity: IdentityInUse,
}

impl Sidecar {
    /// Does what `main` would, with a control plane that knows the pod and these others.
    async fn start(
        pod: Workload,
        others: &[Workload],
    ) -> (Self, FakeControlPlane, DiscoveryStream) {
        let mut control_plane = FakeControlPlane::start().await;
        let runtime = Runtime::new(RuntimeOptions {
            pod: None,
            node: "node-1".to_owned(),
            control_plane: ControlPlaneOptions {
                address: control_plane.address(),
                server_name: SERVER_NAME.to_owned(),
                root_certificates: control_plane.root_file(),
                token_file: control_plane.token_file(),
            },
            workers: Some(1),
            settings: Settings::default(),
        });
        let runtime = runtime.unwrap();
        runtime.follow_control_plane();
        let mut stream = control_plane.stream().await;
        assert_eq!(stream.subscribe().await.node, "node-1");
        let all = [std::slice::from_ref(&pod), others].concat();
        let resources = all
            .into_iter()
            .map(|one| resource(&Change::Workload(one), "1"));
        stream.synchronize(resources.collect()).await;
        let mut discovery = runtime.discovery();
        let synchronized = discovery.wait_for(|status| status.synchronized);
        in_time(synchronized).await.unwrap();

        let mesh = runtime.node.store.snapshot();
        let workload = Arc::clone(mesh.workload(&pod.uid).unwrap());
        let identity = runtime.certificates.use_identity(&workload.identity);
        in_time(identity.certificate()).await;
        let IpAddr::V4(address) = workload.addresses[0] else {
            panic!("{workload:?}")
        };
        let sockets = Arc::new(HostSockets::new(address));
        let of_pod = Arc::<HostSockets>::clone(&sockets);
        let proxy = runtime.start_pod(Arc::clone(&workload), of_pod).unwrap();
        runtime
            .captures
            .set(&workload.uid, PodCaptureState::Captured);
        runtime.captures.complete();
        let sidecar = Self {
            runtime,
            workload,
            sockets,
            proxy,
            identity,
        };
        (sidecar, control_plane, stream)
    }

    /// A page for monitoring, as whoever scrapes it sees it.
    async fn page(&self, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = self.runtime.monitoring_pages();
        let endpoint = admin::Endpoint::new(listener, pages, admin::Limits::MONITORING);
        let serving = tokio::spawn(admin::serve(endpoint));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        in_time(stream.read_to_string(&mut answer)).await.unwrap();
        serving.abort();
        answer
    }
}

#[tokio::test]
async fn a_second_binary_serves_its_one_pod_by_the_runtime_alone() {
    let peer = workload("peer", fresh_address(), "node-2");
    let pod = Workload {
        enrolment: Enrolment::Pending,
        ..workload("pod", fresh_address(), "node-1")
    };
    let (sidecar, control_plane, mut stream) =
        Sidecar::start(pod, std::slice::from_ref(&peer)).await;
    let authority = control_plane.authority();
    let report = stream.capture().await;
    assert_eq!(report.pods[0].workload_uid, "pod");
    assert_eq!(report.pods[0].state(), CaptureState::Captured);

    // Out: to a peer of another node, which proves who it is, and to what is outside.
    let gateway = (peer.addresses[0], HBONE_PORT);
    let proxy_of_peer = TcpListener::bind(gateway).await.unwrap();
    let presented = authority.workload(&peer.identity);
    serve(proxy_of_peer, move |stream| {
        let presented = presented.clone();
        async move { hbone::serve(stream, &presented, "hello").await }
    });
    let destination = SocketAddr::from((peer.addresses[0], 8080));
    let mut tunnelled = sidecar.sockets.connect(destination).await.unwrap();
    assert_eq!(exchange(&mut tunnelled, "howdy").await, "hello");
    let outside = serve(listen().await, echo);
    let mut plain = sidecar.sockets.connect(outside).await.unwrap();
    assert_eq!(exchange(&mut plain, "plain").await, "plain");

    // In: from the peer, and not from a stranger.
    let at = |port: u16| SocketAddr::from((sidecar.workload.addresses[0], port));
    let application = serve(TcpListener::bind(at(0)).await.unwrap(), echo);
    let open = |authority: &Authority| {
        let presented = authority.workload(&identity("peer"));
        let config = hbone::client(Some(&presented));
        Tunnel::open(at(HBONE_PORT), config, connect(application))
    };
    let tunnel = in_time(open(authority)).await.unwrap();
    assert_eq!(
        in_time(tunnel.exchange("come in")).await.unwrap(),
        "come in"
    );
    let refused = in_time(open(&Authority::new())).await;
    assert!(refused.is_err(), "{refused:?}");

    // All of it is counted.
    let page = sidecar.page("/metrics").await;
    let peer = identity("peer");
    for (reporter, other) in [("source", "destination"), ("destination", "source")] {
        let parts = [
            "istio_tcp_connections_opened_total{",
            &format!("reporter=\"{reporter}\""),
            &format!("{other}_principal=\"{peer}\""),
            "connection_security_policy=\"mutual_tls\"",
        ];
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(page.lines().any(has_all), "{parts:?}: {page}");
    }
    drop(tunnelled);
    stop(sidecar, stream, (plain, outside)).await;
}

/// Stops the sidecar while a connection to this destination is open.
async fn stop(sidecar: Sidecar, mut stream: DiscoveryStream, open: (TcpStream, SocketAddr)) {
    let (mut connection, destination) = open;
    let Sidecar {
        runtime,
        workload,
        sockets,
        proxy,
        identity,
    } = sidecar;
    runtime.captures.release(&workload.uid);
    let report = stream.capture().await;
    assert_eq!(report.pods[0].state(), CaptureState::Released);
    let certificates = Arc::clone(&runtime.node.certificates);
    proxy.stop_accepting();
    let draining = tokio::spawn(proxy.drain(DEADLINE));
    // Nothing new begins, and what is open goes on.
    let refused = sockets.connect(destination).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(exchange(&mut connection, "to the end").await, "to the end");
    drop(connection);
    in_time(draining).await.unwrap();
    drop(identity);
    assert!(certificates.current(&workload.identity).is_none());
    drop(runtime);
}
