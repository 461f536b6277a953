use super::*;
use crate::control_plane::test_server::{TestServer, TestStream};
use crate::discovery::PodCaptureState;
use tokio::task::AbortHandle;
use weft_model::workload::WorkloadUid;

fn service(name: &str, version: &str, port: u32) -> v1::Resource {
    v1::Resource {
        name: format!("shop/{name}"),
        version: version.into(),
        resource: Some(v1::resource::Resource::Service(v1::Service {
            namespace: "shop".into(),
            name: name.into(),
            kind: Some(v1::service::Kind::Headless(v1::Headless {})),
            ports: vec![v1::ServicePort {
                port,
                ..Default::default()
            }],
            ..Default::default()
        })),
    }
}

struct Client {
    store: Arc<Store>,
    captures: CaptureReports,
    status: watch::Receiver<DiscoveryStatus>,
    task: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    fn start(control_plane: ControlPlane) -> Self {
        let store = Arc::new(Store::new());
        let captures = CaptureReports::default();
        let (sender, status) = watch::channel(DiscoveryStatus::default());
        let options = DiscoveryOptions {
            node: "node-1".into(),
            control_plane,
            store: Arc::clone(&store),
            captures: captures.clone(),
        };
        let task = tokio::spawn(run(options, sender)).abort_handle();
        Self {
            store,
            captures,
            status,
            task,
        }
    }

    async fn until(&mut self, condition: impl FnMut(&DiscoveryStatus) -> bool) -> DiscoveryStatus {
        let deadline = Duration::from_secs(20);
        let status = tokio::time::timeout(deadline, self.status.wait_for(condition)).await;
        status.expect("the status never came").unwrap().clone()
    }

    fn services(&self) -> Vec<String> {
        let mesh = self.store.snapshot();
        let mut names: Vec<_> = mesh
            .services()
            .map(|service| service.key.to_string())
            .collect();
        names.sort();
        names
    }
}

async fn synchronize(stream: &TestStream, changed: Vec<v1::Resource>) {
    let synchronized = true;
    stream
        .send(v1::DiscoveryResponse {
            sequence: 1,
            changed,
            synchronized,
            ..Default::default()
        })
        .await;
}

#[tokio::test]
async fn subscribes_with_the_token_and_applies_what_comes() {
    let mut server = TestServer::start().await;
    let mut client = Client::start(server.control_plane());
    let mut stream = server.stream().await;
    assert_eq!(stream.authorization, "Bearer first-token");
    let subscribe = stream.subscribe().await;
    assert_eq!(subscribe.node, "node-1");
    let mut kinds = subscribe.kinds;
    kinds.sort_unstable();
    let all = (1..100).filter(|kind| ResourceKind::try_from(*kind).is_ok());
    assert_eq!(kinds, all.collect::<Vec<_>>());
    assert!(subscribe.held.is_empty());

    synchronize(
        &stream,
        vec![service("web", "1", 80), service("bad", "1", 0)],
    )
    .await;
    let acknowledge = stream.acknowledge().await;
    assert_eq!((acknowledge.sequence, acknowledge.rejected.len()), (1, 1));
    let status = client.until(|status| status.synchronized).await;
    assert_eq!(client.services(), ["shop/web"]);
    assert!(
        status.rejected[0].contains("shop/bad"),
        "{:?}",
        status.rejected
    );

    let kind = ResourceKind::Service as i32;
    let removed = v1::ResourceVersion {
        kind,
        name: "shop/web".into(),
        version: "1".into(),
    };
    let removed = vec![removed];
    stream
        .send(v1::DiscoveryResponse {
            sequence: 2,
            removed,
            ..Default::default()
        })
        .await;
    assert_eq!(stream.acknowledge().await.sequence, 2);
    assert!(client.services().is_empty());
}

#[tokio::test]
async fn keeps_what_it_has_when_the_control_plane_dies_and_resumes_with_versions() {
    let mut server = TestServer::start().await;
    let mut client = Client::start(server.control_plane());
    let mut stream = server.stream().await;
    stream.subscribe().await;
    synchronize(&stream, vec![service("web", "7", 80)]).await;
    client.until(|status| status.synchronized).await;
    let web = WorkloadUid::from("web");
    client.captures.set(&web, PodCaptureState::Captured);
    assert!(!stream.capture().await.complete);

    server.kill();
    client.until(|status| !status.connected).await;
    assert_eq!(client.services(), ["shop/web"]);
    client.captures.complete();
    std::fs::write(server.directory.path().join("token"), "second-token").unwrap();
    server.serve().await;

    let mut stream = server.stream().await;
    assert_eq!(stream.authorization, "Bearer second-token");
    let held = stream.subscribe().await.held;
    assert_eq!(
        (held[0].name.as_str(), held[0].version.as_str()),
        ("shop/web", "7")
    );
    let report = stream.capture().await;
    assert_eq!((report.pods.len(), report.complete), (1, true));

    client.captures.release(&web);
    let report = stream.capture().await;
    assert_eq!(report.pods[0].state(), v1::CaptureState::Released);
    assert!(!report.complete);
    let status = client.until(|status| status.connected).await;
    assert!(status.synchronized, "it was once, and still serves that");
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again() {
    let mut server = TestServer::start().await;
    let mut client = Client::start(server.control_plane());
    let stream = server.stream().await;
    drop(stream);
    server.stream().await.subscribe().await;
    let status = client.until(|status| status.connected).await;
    assert!(status.last_error.unwrap().contains("closed the stream"));
}

#[tokio::test]
async fn a_refused_token_is_said_so_and_tried_again() {
    let mut server = TestServer::start().await;
    let mut client = Client::start(server.control_plane());
    let stream = server.stream().await;
    stream
        .responses
        .send(Err(tonic::Status::unauthenticated("expired")))
        .await
        .unwrap();
    let status = client.until(|status| status.last_error.is_some()).await;
    let reason = status.last_error.unwrap();
    assert!(
        reason.contains("doesn't accept the token: expired"),
        "{reason}"
    );
    server.stream().await.subscribe().await;
}

#[tokio::test]
async fn a_server_with_another_name_or_root_is_refused() {
    let server = TestServer::start().await;
    let mut client = Client::start(server.control_plane_named("somebody-else"));
    let status = client.until(|status| status.last_error.is_some()).await;
    let reason = status.last_error.unwrap();
    assert!(
        reason.contains("somebody-else") && reason.contains("certificate"),
        "{reason}"
    );

    let other = TestServer::start().await;
    let root = server.directory.path().join("root.pem");
    std::fs::copy(other.directory.path().join("root.pem"), root).unwrap();
    let mut client = Client::start(server.control_plane());
    let status = client.until(|status| status.last_error.is_some()).await;
    let reason = status.last_error.unwrap();
    assert!(
        reason.contains("UnknownIssuer") || reason.contains("BadSignature"),
        "{reason}"
    );
    assert!(client.services().is_empty());
}
