//! What a pod's own sidecar gets, and what it is refused.

use tonic::{Code, Status};
use weft_testing::agent::{AgentStream, FakeAgent};
use weft_testing::authority::certificate_request;

use super::*;
use crate::ca::join_token::PodName;

/// A pod of `node-1` with a sidecar.
fn sidecar_pod(name: &str, address: &str) -> String {
    pod(name, "node-1", address).replace(
        "containers: []",
        "containers: [{ name: weft-proxy, image: weft-sidecar }]",
    )
}

/// Beside the pods of others, two with sidecars.
fn folder_with_sidecars() -> TempDir {
    let folder = folder();
    let pods = sidecar_pod("cart", "10.0.1.1") + &sidecar_pod("till", "10.0.1.2");
    write(folder.path(), "sidecars.yaml", &pods);
    folder
}

impl ControlPlane {
    fn pod_token(&self, pod: &str) -> String {
        let pod = pod.parse::<PodName>().unwrap();
        self.key.issue(Bearer::Pod(pod), HOUR, SystemTime::now())
    }

    async fn subscribe_as(
        &self,
        folder: &TempDir,
        token: &str,
        pod: &str,
    ) -> Result<AgentStream, Status> {
        let channel = self.channel(folder.path()).await;
        let sidecar = FakeAgent::new(channel, "node-1", Some(token)).as_sidecar(pod);
        sidecar.subscribe().await
    }
}

const CART: &str = "spiffe://cluster.local/ns/default/sa/cart";
const TILL: &str = "spiffe://cluster.local/ns/default/sa/till";

#[tokio::test]
async fn a_sidecar_gets_configuration_and_the_certificate_of_its_own_pod() {
    let folder = folder_with_sidecars();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.pod_token("default/cart");
    let stream = control_plane
        .subscribe_as(&folder, &token, "default/cart")
        .await;
    let response = stream.unwrap().response().await;
    assert!(response.synchronized);
    // Its peers are among what it needs.
    assert_eq!(
        names(&response),
        ["default/cart", "default/db", "default/till", "default/web"]
    );
    let request = certificate_request(CART);
    let signed = control_plane
        .sign(folder.path(), Some(&token), request)
        .await;
    assert_eq!(signed.unwrap().len(), 1);
}

#[tokio::test]
async fn a_sidecar_gets_no_certificate_of_another_pod() {
    let folder = folder_with_sidecars();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.pod_token("default/cart");
    // Of a pod with a sidecar, and of one that its own node's agent serves.
    for other in [TILL, WEB, "spiffe://elsewhere/ns/default/sa/cart"] {
        let request = certificate_request(other);
        let refused = control_plane
            .sign(folder.path(), Some(&token), request)
            .await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{other}");
        assert!(refused.message().contains("pod default/cart"), "{refused}");
    }
}

#[tokio::test]
async fn a_sidecar_gets_no_configuration_of_another_pod() {
    let folder = folder_with_sidecars();
    let control_plane = ControlPlane::start(folder.path()).await;
    let token = control_plane.pod_token("default/cart");
    let mut stream = control_plane
        .subscribe_as(&folder, &token, "default/till")
        .await
        .unwrap();
    let refused = stream.receive().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("default/till"), "{refused}");
}

#[tokio::test]
async fn a_pods_token_opens_no_agents_stream_and_a_nodes_token_no_sidecars() {
    let folder = folder_with_sidecars();
    let control_plane = ControlPlane::start(folder.path()).await;
    let of_pod = control_plane.pod_token("default/cart");
    let mut stream = control_plane
        .subscribe(folder.path(), &of_pod, "node-1", vec![])
        .await
        .unwrap();
    let refused = stream.receive().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let of_node = control_plane.token("node-1");
    let mut stream = control_plane
        .subscribe_as(&folder, &of_node, "default/cart")
        .await
        .unwrap();
    let refused = stream.receive().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Nor gets a node the certificate of a pod that has a sidecar.
    let request = certificate_request(CART);
    let refused = control_plane
        .sign(folder.path(), Some(&of_node), request)
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_pod_without_a_sidecar_gets_nothing_by_its_own_token() {
    let folder = folder_with_sidecars();
    let control_plane = ControlPlane::start(folder.path()).await;
    // Of one that isn't known more may be in a moment.
    for (pod, code) in [
        ("default/web", Code::PermissionDenied),
        ("default/none", Code::Unavailable),
    ] {
        let token = control_plane.pod_token(pod);
        let refused = control_plane.subscribe_as(&folder, &token, pod).await;
        assert_eq!(refused.unwrap_err().code(), code, "{pod}");
        let request = certificate_request(WEB);
        let refused = control_plane
            .sign(folder.path(), Some(&token), request)
            .await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "{pod}");
    }
}

#[tokio::test]
async fn a_sidecar_reports_its_own_pod_alone_and_an_agent_says_nothing_of_it() {
    let folder = folder_with_sidecars();
    let control_plane = ControlPlane::start(folder.path()).await;
    let captured = |pod: &str| {
        let resources = control_plane.cluster.resources();
        let key = (ResourceKind::Workload, Arc::from(pod));
        let Some(resource::Resource::Workload(workload)) = resources
            .get(&key)
            .and_then(|one| one.message.resource.clone())
        else {
            panic!("{pod} is not known");
        };
        workload.enrolment() == Enrolment::Captured
    };
    let token = control_plane.pod_token("default/cart");
    let stream = control_plane
        .subscribe_as(&folder, &token, "default/cart")
        .await;
    let mut sidecar = stream.unwrap();
    sidecar.response().await;
    for pod in ["default/till", "default/web", "default/cart"] {
        sidecar.report(pod, CaptureState::Captured, "").await;
    }
    assert_eq!(names(&sidecar.response().await), ["default/cart"]);
    assert!(captured("default/cart") && !captured("default/till") && !captured("default/web"));

    let token = control_plane.token("node-1");
    let stream = control_plane
        .subscribe(folder.path(), &token, "node-1", vec![])
        .await;
    let mut agent = stream.unwrap();
    agent.response().await;
    agent
        .report("default/cart", CaptureState::Released, "")
        .await;
    agent
        .report("default/till", CaptureState::Captured, "")
        .await;
    agent.complete().await;
    agent
        .report("default/web", CaptureState::Captured, "")
        .await;
    assert_eq!(names(&agent.response().await), ["default/web"]);
    assert!(captured("default/cart") && !captured("default/till"));
}
