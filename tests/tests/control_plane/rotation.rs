//! One root after the other, for all replicas.

use serde_json::json;
use weft_tests::wait_for;

use crate::bed::{Bed, ControlPlane, LIMIT};

const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/default";

/// Whether a replica proves itself by this root.
async fn proves_itself(control_plane: &ControlPlane, root: &str, token: &str) -> bool {
    let agent = control_plane.agent(root.as_bytes(), "node-1", token);
    agent.await.is_ok()
}

async fn wait_until_proven(control_plane: &ControlPlane, root: &str, token: &str) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !proves_itself(control_plane, root, token).await {
        assert!(tokio::time::Instant::now() < deadline, "not in time");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn count(roots: &str) -> usize {
    roots.matches("BEGIN CERTIFICATE").count()
}

fn wait_for_published(bed: &Bed, roots: usize) {
    wait_for("the published roots", LIMIT, || {
        let published = String::from_utf8(bed.roots()).unwrap();
        match count(&published) == roots {
            true => Ok(()),
            false => Err(published),
        }
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_follows_a_root_rotation_from_step_to_step() {
    let bed = Bed::new();
    let replicas = ["a", "b"].map(|name| bed.start(name));
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let uid = bed.pod("shop", "web", "node-1", "default");
    let token = bed.agent_token("node-1");
    let old = bed.secret("tls.crt");
    wait_for_published(&bed, 1);
    let refused = bed.rotate_root(&["switch"]).unwrap_err();
    assert!(refused.contains("no rotation is under way"), "{refused}");

    bed.rotate_root(&["start"]).unwrap();
    wait_for_published(&bed, 2);
    assert_eq!(bed.secret("tls.crt"), old);
    let roots = bed.secret("ca.crt");
    let new = roots.replace(old.trim(), "");
    for replica in &replicas {
        replica.wait_for_workload(&uid, "enrolment", "Pending");
        let agent = bed.agent(replica, "node-1", &token).await;
        let answer = agent.sign(IDENTITY).await.unwrap();
        assert_eq!((answer.chain.len(), answer.roots.len()), (1, 2));
        assert!(!proves_itself(replica, &new, &token).await);
    }
    // An hour and a minute: what the replicas were told, and what they have published.
    let status = bed.rotate_root(&["status"]).unwrap();
    assert!(
        status.contains("next: `rotate-root switch`, from "),
        "{status}"
    );
    let early = bed.rotate_root(&["switch"]).unwrap_err();
    assert!(early.contains("too early"), "{early}");
    assert_eq!(bed.secret("tls.crt"), old);

    bed.rotate_root(&["switch", "--force"]).unwrap();
    for replica in &replicas {
        wait_until_proven(replica, &new, &token).await;
        assert!(!proves_itself(replica, &old, &token).await);
    }
    let early = bed.rotate_root(&["finish"]).unwrap_err();
    assert!(early.contains("too early"), "{early}");
    bed.rotate_root(&["finish", "--force"]).unwrap();
    wait_for_published(&bed, 1);
    assert_eq!(bed.secret("ca.crt"), bed.secret("tls.crt"));
    let path = ["get", "secret", "weft-ca", "-n", "weft-system"];
    let secret = bed.kubectl().json(&path).unwrap();
    assert_eq!(
        secret["data"].as_object().unwrap().len(),
        3,
        "no old key is left"
    );
    let agent = bed.agent(&replicas[0], "node-1", &token).await;
    assert_eq!(agent.sign(IDENTITY).await.unwrap().roots.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cert_manager_writes_is_left_to_cert_manager() {
    let bed = Bed::new();
    bed.start("a").stop();
    let mark = "cert-manager.io/certificate-name=weft-ca";
    bed.kubectl()
        .run(&["annotate", "secret", "weft-ca", "-n", "weft-system", mark])
        .unwrap();
    let before = bed.secret("ca.crt");
    let refused = bed.rotate_root(&["start"]).unwrap_err();
    assert!(refused.contains("cert-manager"), "{refused}");
    assert_eq!(bed.secret("ca.crt"), before);
}
