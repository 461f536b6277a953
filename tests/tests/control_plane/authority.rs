//! The authority in the cluster: one for all replicas, and whose it is.

use std::time::Instant;

use serde_json::json;
use weft_testing::authority::Authority;
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};

const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/default";

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_share_one_root_and_one_of_them_leads() {
    let bed = Bed::new();
    let replicas = ["a", "b", "c"].map(|name| bed.spawn(name, bed.server.endpoint()));
    for replica in &replicas {
        replica.wait_until_ready();
    }
    let root = bed.secret("ca.crt");
    assert_eq!(bed.secret("tls.crt"), root);
    assert_eq!(bed.roots(), root.clone().into_bytes());
    let made = replicas
        .iter()
        .filter(|replica| replica.log().contains("made a new root"));
    assert_eq!(made.count(), 1);
    // Each of them proves itself by that root.
    let token = bed.agent_token("node-1");
    for replica in &replicas {
        let agent = bed.agent(replica, "node-1", &token).await;
        agent.subscribe().await.unwrap().synchronize().await;
    }

    let path = [
        "get",
        "lease",
        "weft-control-plane",
        "-n",
        "weft-system",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ];
    let holder = bed
        .kubectl()
        .wait("a leader", LIMIT, &path, |name| !name.is_empty());
    let holder = holder.unwrap();
    // A leader that ends properly makes nobody wait for its lease to run out.
    let begin = Instant::now();
    let names = ["a", "b", "c"];
    for (name, replica) in names.iter().zip(replicas) {
        if *name == holder {
            replica.stop();
            bed.kubectl()
                .wait("another leader", LIMIT, &path, |name| {
                    !name.is_empty() && name != holder
                })
                .unwrap();
            assert!(begin.elapsed().as_secs() < 14, "{:?}", begin.elapsed());
            break;
        }
    }
}

/// An authority below a root of somebody else's, as cert-manager writes it.
struct Plugged {
    root: String,
    certificate: String,
    key: String,
}

impl Plugged {
    fn new(name: &str) -> Self {
        let root = Authority::new();
        let below = root.subordinate(name);
        Self {
            root: root.root_pem().to_owned(),
            certificate: below.certificate_pem,
            key: below.key_pem,
        }
    }

    fn secret(&self, key: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": "weft-ca", "namespace": "weft-system" },
            "stringData": { "tls.crt": self.certificate, "tls.key": key, "ca.crt": self.root },
        })
        .to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intermediate_authority_is_taken_replaced_live_and_kept_when_the_next_is_broken() {
    let bed = Bed::new();
    let first = Plugged::new("first");
    bed.kubectl()
        .run_with(&first.secret(&first.key), &["apply", "-f", "-"])
        .unwrap();
    let mut control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let uid = bed.pod("shop", "web", "node-1", "default");
    control_plane.wait_for_workload(&uid, "enrolment", "Pending");
    assert_eq!(
        String::from_utf8(bed.roots()).unwrap().trim(),
        first.root.trim()
    );
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    // The leaf, and what leads from it to the root.
    let answer = agent.sign(IDENTITY).await.unwrap();
    assert_eq!((answer.chain.len(), answer.roots.len()), (2, 1));

    // A key that belongs to another certificate signs nothing that anybody accepts.
    let second = Plugged::new("second");
    bed.kubectl()
        .run_with(&second.secret(&first.key), &["apply", "-f", "-"])
        .unwrap();
    control_plane.wait_for_log("signing goes on with what was there before");
    let same = agent.sign(IDENTITY).await.unwrap();
    assert_eq!(
        (&same.chain[1], &same.roots),
        (&answer.chain[1], &answer.roots)
    );

    bed.kubectl()
        .run_with(&second.secret(&second.key), &["apply", "-f", "-"])
        .unwrap();
    wait_for("the second authority", LIMIT, || {
        let roots = String::from_utf8(bed.roots()).unwrap();
        match roots.trim() == second.root.trim() {
            true => Ok(()),
            false => Err(roots),
        }
    })
    .unwrap();
    let next = agent.sign(IDENTITY).await.unwrap();
    assert_ne!(next.roots, answer.roots);
    // The control plane itself proves who it is by the new root, at once.
    bed.agent(&control_plane, "node-1", &token).await;
}
