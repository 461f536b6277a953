use super::*;
use crate::control_plane::ControlPlaneOptions;
use crate::discovery::PodCaptureState;
use crate::fixtures::{client_of, options_for};
use tokio::task::AbortHandle;
use weft_model::workload::WorkloadUid;
use weft_testing::control_plane::FakeControlPlane;
use weft_testing::resources::{all_kinds, headless_service, service_removed};
use weft_testing::wait::in_time;

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
            pod: None,
            control_plane,
            store: Arc::clone(&store),
            captures: captures.clone(),
            node_capture: None,
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
        let status = in_time(self.status.wait_for(condition)).await;
        status.unwrap().clone()
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

#[tokio::test]
async fn subscribes_with_the_token_and_applies_what_comes() {
    let mut server = FakeControlPlane::start().await;
    let mut client = Client::start(client_of(&server));
    let mut stream = server.stream().await;
    assert_eq!(stream.authorization, "Bearer first-token");
    let subscribe = stream.subscribe().await;
    assert_eq!(subscribe.node, "node-1");
    let mut kinds = subscribe.kinds;
    kinds.sort_unstable();
    assert_eq!(kinds, all_kinds());
    assert!(subscribe.held.is_empty());

    let changed = vec![
        headless_service("web", "1", 80),
        headless_service("bad", "1", 0),
    ];
    stream.synchronize(changed).await;
    let acknowledge = stream.acknowledge().await;
    assert_eq!((acknowledge.sequence, acknowledge.rejected.len()), (1, 1));
    let status = client.until(|status| status.synchronized).await;
    assert_eq!(client.services(), ["shop/web"]);
    assert!(
        status.rejected[0].contains("shop/bad"),
        "{:?}",
        status.rejected
    );

    stream.send(service_removed(2, "web")).await;
    assert_eq!(stream.acknowledge().await.sequence, 2);
    assert!(client.services().is_empty());
}

#[tokio::test]
async fn keeps_what_it_has_when_the_control_plane_dies_and_resumes_with_versions() {
    let mut server = FakeControlPlane::start().await;
    let mut client = Client::start(client_of(&server));
    let mut stream = server.stream().await;
    stream.subscribe().await;
    let changed = vec![headless_service("web", "7", 80)];
    stream.synchronize(changed).await;
    client.until(|status| status.synchronized).await;
    let web = WorkloadUid::from("web");
    client.captures.set(&web, PodCaptureState::Captured);
    assert!(!stream.capture().await.complete);

    server.kill();
    client.until(|status| !status.connected).await;
    assert_eq!(client.services(), ["shop/web"]);
    client.captures.complete();
    server.replace_token("second-token");
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
    let mut server = FakeControlPlane::start().await;
    let mut client = Client::start(client_of(&server));
    let stream = server.stream().await;
    drop(stream);
    server.stream().await.subscribe().await;
    let status = client.until(|status| status.connected).await;
    assert!(status.last_error.unwrap().contains("closed the stream"));
}

#[tokio::test]
async fn a_refused_token_is_said_so_and_tried_again() {
    let mut server = FakeControlPlane::start().await;
    let mut client = Client::start(client_of(&server));
    let stream = server.stream().await;
    stream.fail(tonic::Status::unauthenticated("expired")).await;
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
    let server = FakeControlPlane::start().await;
    let somebody_else = ControlPlane::new(ControlPlaneOptions {
        server_name: "somebody-else".into(),
        ..options_for(&server)
    });
    let mut client = Client::start(somebody_else.unwrap());
    let status = client.until(|status| status.last_error.is_some()).await;
    let reason = status.last_error.unwrap();
    assert!(
        reason.contains("somebody-else") && reason.contains("--control-plane-name"),
        "{reason}"
    );

    let other = FakeControlPlane::start().await;
    std::fs::copy(other.root_file(), server.root_file()).unwrap();
    let mut client = Client::start(client_of(&server));
    let status = client.until(|status| status.last_error.is_some()).await;
    let reason = status.last_error.unwrap();
    assert!(reason.contains("--root-certificates"), "{reason}");
    assert!(client.services().is_empty());
}
