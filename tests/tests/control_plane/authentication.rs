//! Who may speak for a node, and for whom it may ask.

use std::time::Instant;

use serde_json::json;
use tonic::Code;

use crate::bed::{Bed, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_running_agent_speaks_for_its_node_and_no_other_token_does() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    let agent = async |node: &str, token: &str| bed.agent(&control_plane, node, token).await;
    let good = bed.agent_token("node-1");
    let mut stream = agent("node-1", &good).await.subscribe().await.unwrap();
    stream.synchronize().await;

    // Another node than the token's.
    let refused = agent("node-2", &good).await.refusal().await;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("node-1"), "{refused}");
    // Another audience.
    let pod = Some("weft-node-agent-node-1");
    let vault = bed.token("weft-node-agent", pod, "vault");
    let refused = agent("node-1", &vault).await.refusal().await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    // Another ServiceAccount, though of the same namespace and on that node: it speaks for its
    // own pod, which has no sidecar.
    bed.pod("weft-system", "stranger", "node-1", "default");
    let stranger = bed.token("default", Some("stranger"), "weft-control-plane");
    let known = async {
        loop {
            let refused = agent("node-1", &stranger).await.refusal().await;
            // So it is until the control plane has heard of the pod.
            if refused.code() != Code::Unavailable {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(LIMIT, known).await.unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(
        refused.message().contains("weft-system/stranger"),
        "{refused}"
    );
    // Bound to no pod, so to no node.
    let unbound = bed.token("weft-node-agent", None, "weft-control-plane");
    let refused = agent("node-1", &unbound).await.refusal().await;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // Of a pod that was deleted.
    let gone = bed.agent_token("node-3");
    let pod = "weft-node-agent-node-3";
    let delete = ["delete", "pod", pod, "-n", "weft-system", "--force"];
    bed.kubectl().run(&delete).unwrap();
    let refused = agent("node-3", &gone).await.refusal().await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    // No token at all.
    let refused = agent("node-1", "").await.refusal().await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_certificates_for_the_enrolled_pods_that_run_on_it_only() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    bed.namespace("bank", &json!({}));
    for (namespace, account) in [("shop", "web"), ("shop", "db"), ("bank", "teller")] {
        let create = ["create", "serviceaccount", account, "-n", namespace];
        bed.kubectl().run(&create).unwrap();
    }
    bed.pod("shop", "web", "node-1", "web");
    bed.pod("bank", "teller", "node-1", "teller");
    let db = bed.pod("shop", "db", "node-2", "db");
    control_plane.wait_for_workload(&db, "enrolment", "Pending");

    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let answer = agent.sign("spiffe://cluster.local/ns/shop/sa/web").await;
    let answer = answer.unwrap();
    assert_eq!((answer.chain.len(), answer.roots.len()), (1, 1));
    for (identity, why) in [
        ("spiffe://cluster.local/ns/shop/sa/db", "on another node"),
        ("spiffe://cluster.local/ns/bank/sa/teller", "not enrolled"),
        ("spiffe://cluster.local/ns/shop/sa/admin", "nobody's"),
        ("spiffe://example.org/ns/shop/sa/web", "of another mesh"),
    ] {
        let refused = agent.sign(identity).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{why}: {refused}");
    }

    // Whoever deletes the account takes the identity away, though the pod still runs.
    let delete = ["delete", "serviceaccount", "web", "-n", "shop"];
    bed.kubectl().run(&delete).unwrap();
    let deadline = Instant::now() + LIMIT;
    let refused = loop {
        match agent.sign("spiffe://cluster.local/ns/shop/sa/web").await {
            Err(refused) => break refused,
            Ok(_) => assert!(Instant::now() < deadline, "still signed"),
        }
    };
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("ServiceAccount"), "{refused}");
}
