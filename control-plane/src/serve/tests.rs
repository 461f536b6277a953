//! Real gRPC over TLS on loopback: what agents get, and what they are refused.

mod sidecar;

use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::client::GrpcService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use weft_proto::v1::discovery_request::Request as Message;
use weft_proto::v1::{
    CaptureState, DiscoveryResponse, Enrolment, Rejection, ResourceKind, ResourceVersion,
    Subscribe, resource,
};
use weft_testing::agent::{AgentStream, FakeAgent, connect};
use weft_testing::authority::certificate_request;

use super::ServerCertificate;
use super::authentication::Authenticator;
use super::certificate_counts::CertificateCounts;
use super::certificates::CertificatesService;
use super::discovery::{self, DiscoveryService};
use super::node_limit::NodeLimit;
use super::server::{self, Services};
use crate::agents::Agents;
use crate::ca::Authority;
use crate::ca::join_token::{Bearer, JoinKey};
use crate::captures::{CaptureFile, Captures};
use crate::cluster::Cluster;
use crate::key_sets::{Fetcher, FetcherOptions, KeySets};
use crate::rate_limit;
use crate::source::directory::Directory;

const HOUR: Duration = Duration::from_secs(3600);

/// A running control plane, its files and its end.
pub(crate) struct ControlPlane {
    cluster: Arc<Cluster>,
    agents: Arc<Agents>,
    directory: Directory,
    key: Arc<JoinKey>,
    counts: Arc<CertificateCounts>,
    port: u16,
    stop: watch::Sender<bool>,
}

fn pod(name: &str, node: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, annotations: {{ weft.dev/mesh: enabled }} }}\n\
         spec: {{ nodeName: {node}, serviceAccountName: {name}, containers: [] }}\nstatus: {{ podIP: {address} }}\n"
    )
}

pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("manifests")).unwrap();
    write(
        folder.path(),
        "pods.yaml",
        &(pod("web", "node-1", "10.0.0.1") + &pod("db", "node-2", "10.0.0.2")),
    );
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join("manifests").join(name), text).unwrap();
}

impl ControlPlane {
    async fn start(folder: &Path) -> Self {
        Self::start_with(folder, rate_limit::Options::default()).await
    }

    pub(crate) async fn start_with(folder: &Path, options: rate_limit::Options) -> Self {
        let authority = Arc::new(Authority::open(folder, time::Duration::HOUR).unwrap());
        let key = Arc::new(JoinKey::open(folder).unwrap());
        let cluster = Arc::new(Cluster::of_directory());
        let store = CaptureFile::open(folder, Arc::clone(&cluster)).unwrap();
        let agents = Arc::<Agents>::default();
        let names = vec!["weft-control-plane".to_owned()];
        let tls = ServerCertificate::new(Arc::clone(&authority), names)
            .unwrap()
            .config()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopping) = watch::channel(false);
        let authenticator = Authenticator::JoinTokens(Arc::clone(&key));
        let fetcher = Fetcher::new(FetcherOptions::default()).unwrap();
        let discovery = DiscoveryService {
            cluster: Arc::clone(&cluster),
            agents: Arc::clone(&agents),
            captures: Arc::new(Captures::new(store, Arc::clone(&cluster))),
            key_sets: KeySets::new(Arc::clone(&cluster), fetcher),
            authenticator: authenticator.clone(),
            streams: NodeLimit::new(discovery::MOST_STREAMS),
            stopping: stopping.clone(),
        };
        let counts = Arc::<CertificateCounts>::default();
        let certificates = CertificatesService {
            cluster: Arc::clone(&cluster),
            authenticator: authenticator.clone(),
            authority,
            counts: Arc::clone(&counts),
        };
        let rate_limits = rate_limit::start(options, authenticator, Arc::default()).unwrap();
        let services = Services {
            discovery,
            certificates,
            rate_limits,
        };
        tokio::spawn(server::serve(listener, tls, services, stopping));
        let directory = Directory::new(&folder.join("manifests"));
        let mut control_plane = Self {
            cluster,
            agents,
            directory,
            key,
            counts,
            port,
            stop,
        };
        control_plane.read();
        control_plane
    }

    fn read(&mut self) {
        let update = self.directory.scan().unwrap();
        self.cluster.apply_events(update.events);
    }

    pub(crate) fn token(&self, node: &str) -> String {
        self.key
            .issue(Bearer::Node(node.to_owned()), HOUR, SystemTime::now())
    }

    pub(crate) async fn channel(&self, folder: &Path) -> Channel {
        let root = fs::read(folder.join("ca/root.pem")).unwrap();
        let address = format!("https://127.0.0.1:{}", self.port);
        connect(&address, "weft-control-plane", &root)
            .await
            .unwrap()
    }

    async fn sign(
        &self,
        folder: &Path,
        token: Option<&str>,
        request: Vec<u8>,
    ) -> Result<Vec<Vec<u8>>, Status> {
        let agent = FakeAgent::new(self.channel(folder).await, "node-1", token);
        let response = agent.sign_request(request).await?;
        assert_eq!(response.roots.len(), 1);
        Ok(response.chain)
    }

    async fn subscribe(
        &self,
        folder: &Path,
        token: &str,
        node: &str,
        held: Vec<ResourceVersion>,
    ) -> Result<AgentStream, Status> {
        let channel = self.channel(folder).await;
        FakeAgent::new(channel, node, Some(token))
            .resume(held)
            .await
    }
}

fn names(response: &DiscoveryResponse) -> Vec<&str> {
    response
        .changed
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}

fn versions(response: &DiscoveryResponse) -> Vec<ResourceVersion> {
    let version = |resource: &weft_proto::v1::Resource| ResourceVersion {
        kind: ResourceKind::Workload.into(),
        name: resource.name.clone(),
        version: resource.version.clone(),
    };
    response.changed.iter().map(version).collect()
}

fn enrolment(response: &DiscoveryResponse) -> Enrolment {
    match &response.changed[0].resource {
        Some(resource::Resource::Workload(workload)) => workload.enrolment(),
        other => panic!("{other:?}"),
    }
}

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
const DB: &str = "spiffe://cluster.local/ns/default/sa/db";

#[tokio::test]
async fn an_agent_gets_everything_then_only_what_changes() {
    let folder = folder();
    let mut control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await
        .unwrap();
    let first = agent.response().await;
    assert!(first.synchronized);
    assert_eq!(names(&first), ["default/db", "default/web"]);
    write(
        folder.path(),
        "more.yaml",
        &pod("new", "node-1", "10.0.0.3"),
    );
    control_plane.read();
    let second = agent.response().await;
    assert_eq!((names(&second), second.sequence), (vec!["default/new"], 2));
    fs::remove_file(folder.path().join("manifests/more.yaml")).unwrap();
    control_plane.read();
    let third = agent.response().await;
    assert_eq!(third.removed[0].name, "default/new");
}

#[tokio::test]
async fn nobody_changes_the_protocol_of_a_connection_to_the_control_plane() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let mut channel = control_plane.channel(folder.path()).await;
    for protocol in ["h2c", "websocket"] {
        let body = tonic::body::Body::empty();
        let mut request = http::Request::connect("https://weft-control-plane/");
        let protocol = hyper::ext::Protocol::from_static(protocol);
        request.extensions_mut().unwrap().insert(protocol.clone());
        let request = request.body(body).unwrap();
        let ready =
            poll_fn(|context| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, context));
        ready.await.unwrap();
        let answered = GrpcService::call(&mut channel, request).await;
        assert!(answered.is_err(), "{protocol:?}: {answered:?}");
    }
    // The connection is still good for calls.
    let token = control_plane.token("node-1");
    let agent = FakeAgent::new(channel, "node-1", Some(&token));
    let mut stream = agent.resume(vec![]).await.unwrap();
    assert!(stream.response().await.synchronized);
}

#[tokio::test]
async fn after_a_restart_an_agent_is_sent_differences_only() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await
        .unwrap();
    let held = versions(&agent.response().await);
    control_plane.stop.send_replace(true);
    assert_eq!(agent.receive().await.unwrap_err().code(), Code::Unavailable);
    write(
        folder.path(),
        "more.yaml",
        &pod("new", "node-1", "10.0.0.3"),
    );
    let control_plane = ControlPlane::start(folder.path()).await;
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", held)
        .await
        .unwrap();
    let first = agent.response().await;
    assert_eq!(names(&first), ["default/new"]);
    assert!(first.synchronized && first.removed.is_empty());
}

#[tokio::test]
async fn a_captured_pod_stays_captured_over_a_restart_until_its_node_says_otherwise() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await
        .unwrap();
    agent.response().await;
    agent
        .report("default/web", CaptureState::Captured, "")
        .await;
    agent.complete().await;
    let told = agent.response().await;
    assert_eq!(
        (names(&told), enrolment(&told)),
        (vec!["default/web"], Enrolment::Captured)
    );
    control_plane.stop.send_replace(true);

    let control_plane = ControlPlane::start(folder.path()).await;
    let (token2, held) = (control_plane.token("node-2"), versions(&told));
    let mut other = control_plane
        .subscribe(folder.path(), &token2, "node-2", held)
        .await
        .unwrap();
    assert_eq!(names(&other.response().await), ["default/db"]);
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await
        .unwrap();
    agent.response().await;
    agent.complete().await;
    assert_eq!(enrolment(&other.response().await), Enrolment::Pending);
}

#[tokio::test]
async fn a_node_cannot_report_the_pods_of_another() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await
        .unwrap();
    agent.response().await;
    agent.report("default/db", CaptureState::Captured, "").await;
    agent
        .report("default/web", CaptureState::Captured, "")
        .await;
    assert_eq!(names(&agent.response().await), ["default/web"]);
}

#[tokio::test]
async fn rejections_are_remembered_by_agent_and_resource_until_something_newer_is_sent() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await
        .unwrap();
    let first = agent.response().await;
    let rejection = |name: &str| Rejection {
        kind: ResourceKind::Workload.into(),
        name: name.into(),
        version: String::new(),
        reason: "no such mode".into(),
    };
    let rejected = vec![rejection("default/web"), rejection("default/db")];
    agent.acknowledge(first.sequence, rejected).await;
    // The next report is handled after the answer, in order, and changes that pod.
    agent
        .report("default/web", CaptureState::Captured, "")
        .await;
    agent.response().await;
    let status = control_plane.agents.statuses().remove("node-1").unwrap();
    assert_eq!((status.acknowledged, status.streams), (1, 1));
    let rejected: Vec<_> = status.rejected.into_iter().collect();
    let expected = ("RESOURCE_KIND_WORKLOAD default/db", "no such mode");
    assert_eq!(rejected, [(expected.0.to_owned(), expected.1.to_owned())]);
}

fn node_1() -> Bearer {
    Bearer::Node("node-1".to_owned())
}

#[tokio::test]
async fn streams_without_a_good_token_for_their_node_are_refused() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let folder = folder.path();
    let other_key = JoinKey::open(tempfile::tempdir().unwrap().path()).unwrap();
    let forged = other_key.issue(node_1(), HOUR, SystemTime::now());
    let expired = control_plane
        .key
        .issue(node_1(), HOUR, SystemTime::now() - 2 * HOUR);
    for token in ["", "garbage", &forged, &expired] {
        let refused = control_plane
            .subscribe(folder, token, "node-1", vec![])
            .await;
        assert_eq!(
            refused.err().unwrap().code(),
            Code::Unauthenticated,
            "{token}"
        );
    }
    let foreign = control_plane.token("node-2");
    let mut agent = control_plane
        .subscribe(folder, &foreign, "node-1", vec![])
        .await
        .unwrap();
    assert_eq!(
        agent.receive().await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_stolen_token_opens_only_so_many_streams_and_takes_none_of_other_nodes() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let subscribe = async |node: &str| {
        let token = control_plane.token(node);
        let folder = folder.path();
        control_plane.subscribe(folder, &token, node, vec![]).await
    };
    let mut open = Vec::new();
    for _ in 0..discovery::MOST_STREAMS {
        let mut agent = subscribe("node-1").await.unwrap();
        agent.response().await;
        open.push(agent);
    }
    let refused = subscribe("node-1").await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    subscribe("node-2").await.unwrap().response().await;
    open.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    while subscribe("node-1").await.is_err() {
        assert!(
            Instant::now() < deadline,
            "the place of a stream that has ended"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_the_protocol_is_told_so() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let mut agent = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await
        .unwrap();
    agent.response().await;
    agent.send(Message::Subscribe(Subscribe::default())).await;
    assert_eq!(
        agent.receive().await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_certificate_is_signed_for_a_pod_of_the_callers_node() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let chain = control_plane
        .sign(folder.path(), Some(&token), certificate_request(WEB))
        .await
        .unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(
        names.critical,
        "without a subject the name has to be critical (RFC 5280 4.2.1.6)"
    );
    assert!(format!("{:?}", names.value.general_names).contains(WEB));
    assert_eq!(control_plane.counts.totals(), [1, 0, 0]);
    assert_eq!(leaf.subject().iter().count(), 0);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !leaf.is_ca());
    let lifetime = leaf.validity().not_after - leaf.validity().not_before;
    assert_eq!(
        lifetime.unwrap().whole_minutes(),
        70,
        "clocks differ by up to ten"
    );
}

#[tokio::test]
async fn a_certificate_request_that_is_larger_than_any_is_refused_unread() {
    let folder = folder();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let code = async |length| {
        let signed = control_plane.sign(folder.path(), Some(&token), vec![0; length]);
        signed.await.unwrap_err().code()
    };
    assert_eq!(code(60 * 1024).await, Code::InvalidArgument, "read");
    assert_eq!(code(70 * 1024).await, Code::OutOfRange);
}

#[tokio::test]
async fn certificates_for_someone_else_are_refused() {
    let folder = folder();
    write(
        folder.path(),
        "out.yaml",
        &pod("out", "node-1", "10.0.0.9").replace("enabled", "disabled"),
    );
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.token("node-1");
    let sign = async |token: Option<&str>, request| {
        control_plane
            .sign(folder.path(), token, request)
            .await
            .unwrap_err()
            .code()
    };
    assert_eq!(
        sign(None, certificate_request(WEB)).await,
        Code::Unauthenticated
    );
    assert_eq!(
        sign(Some(&token), certificate_request(DB)).await,
        Code::PermissionDenied
    );
    let node_2 = control_plane.token("node-2");
    assert_eq!(
        sign(Some(&node_2), certificate_request(WEB)).await,
        Code::PermissionDenied
    );
    let outside = "spiffe://cluster.local/ns/default/sa/out";
    assert_eq!(
        sign(Some(&token), certificate_request(outside)).await,
        Code::PermissionDenied
    );
    let other_mesh = "spiffe://elsewhere/ns/default/sa/web";
    assert_eq!(
        sign(Some(&token), certificate_request(other_mesh)).await,
        Code::PermissionDenied
    );
    assert_eq!(
        sign(Some(&token), b"garbage".to_vec()).await,
        Code::InvalidArgument
    );
    assert_eq!(control_plane.counts.totals(), [0, 6, 0]);
}
