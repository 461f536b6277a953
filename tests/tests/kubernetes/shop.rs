//! An application: `web`, a Service with a pod on each node, and a `client` on each.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use weft_tests::process::Process;
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT, Pod};

pub(crate) const WEB: &str = "web";
pub(crate) const CLIENT: &str = "client";

/// Starts it, outside the mesh.
pub(crate) fn open(bed: &Bed) {
    bed.kubectl.apply(include_str!("shop.yaml")).unwrap();
    for part in ["deployment/web", "daemonset/client", "daemonset/host"] {
        bed.kubectl(&format!("rollout status {part} -n shop --timeout=120s"));
    }
    bed.kubectl("wait --for=condition=Ready pod/stranger --timeout=120s");
}

/// Its pods, by UID: where each runs, and how often it was restarted.
pub(crate) fn pods(bed: &Bed) -> BTreeMap<String, (String, u64)> {
    let pods = [WEB, CLIENT]
        .into_iter()
        .flat_map(|app| bed.pods("shop", app));
    pods.map(|pod| (pod.uid, (pod.node, pod.restarts)))
        .collect()
}

pub(crate) fn wait_until_captured(bed: &Bed) {
    wait_for("every pod of the shop to be captured", LIMIT, || {
        let pods = [WEB, CLIENT]
            .into_iter()
            .flat_map(|app| bed.pods("shop", app));
        let outside: Vec<Pod> = pods
            .filter(|pod| pod.captured.as_deref() != Some("True") || !pod.is_ready)
            .collect();
        match outside.is_empty() {
            true => Ok(()),
            false => Err(format!("{outside:?}\n{}", bed.agent_logs())),
        }
    })
    .unwrap();
}

/// Waits until none of these is there.
pub(crate) fn wait_until_gone(bed: &Bed, before: &BTreeMap<String, (String, u64)>, app: &str) {
    let list = format!("get pods -n shop -l=app={app} -o=jsonpath={{.items[*].metadata.uid}}");
    wait_for("old pods to be gone", LIMIT, || {
        let there = bed.try_kubectl(&list)?;
        match there.split_whitespace().any(|uid| before.contains_key(uid)) {
            false => Ok(()),
            true => Err(there),
        }
    })
    .unwrap();
}

/// Every client reaches every pod of the Service, by the Service's own address.
pub(crate) fn wait_for_answers_across_nodes(bed: &Bed) {
    let url = format!("http://{}/", bed.service_address("shop", "web"));
    for client in bed.pods("shop", CLIENT) {
        let mut missing: Vec<_> = bed
            .pods("shop", WEB)
            .into_iter()
            .map(|pod| pod.name)
            .collect();
        assert_eq!(missing.len(), 2);
        wait_for("an answer of every pod", LIMIT, || {
            let answer = bed.curl("shop", &client.name, &url)?;
            missing.retain(|name| !answer.contains(name.as_str()));
            match missing.is_empty() {
                true => Ok(()),
                false => Err(format!("{missing:?} still to answer")),
            }
        })
        .unwrap();
    }
}

/// The agents of both nodes have served the client of the other node, proven to be who
/// it is; the agents of both have chosen the endpoint behind the Service's address.
pub(crate) fn wait_for_mutual_tls_across_nodes(bed: &Bed) {
    let pods = bed.pods("shop", WEB);
    assert_ne!(pods[0].node, pods[1].node);
    for web in &pods {
        let destination = format!("destination.workload=\"{}\"", web.name);
        let security = [
            "path=\"cross-node\"",
            "security=\"mutual_tls\"",
            "flags=\"-\"",
        ];
        let client = "source.identity=\"spiffe://cluster.local/ns/shop/sa/client\"";
        let server = "destination.identity=\"spiffe://cluster.local/ns/shop/sa/web\"";
        let inbound = ["direction=\"inbound\"", &destination, client, server];
        bed.wait_for_record(&[&security[..], &inbound].concat());
        let service = format!(
            "original_destination=\"{}:80\"",
            bed.service_address("shop", "web")
        );
        let outbound = [
            "direction=\"outbound\"",
            &destination,
            client,
            server,
            &service,
        ];
        bed.wait_for_record(&[&security[..], &outbound].concat());
    }
}

/// Requests that go on in the background, each on a connection of its own.
pub(crate) struct Traffic {
    clients: Vec<Process>,
    _logs: TempDir,
}

/// From the clients of both nodes to the Service.
pub(crate) fn traffic(bed: &Bed) -> Traffic {
    let logs = tempfile::tempdir().unwrap();
    let to = format!("--to={}:80", bed.service_address("shop", "web"));
    let clients = bed.pods("shop", CLIENT).into_iter().map(|pod| {
        let mut command = Command::new(bed.kubectl.program());
        command
            .arg("--kubeconfig")
            .arg(bed.kubectl.kubeconfig())
            .args(["exec", "-i", "-n", "shop", &pod.name, "--"])
            .args(["/weft-test-app", "requests", "--rate=50", &to]);
        let mut client = Process::spawn(command, &pod.name, logs.path()).unwrap();
        client.wait_for_text("started", LIMIT).unwrap();
        client
    });
    Traffic {
        clients: clients.collect(),
        _logs: logs,
    }
}

impl Traffic {
    /// Returns who has answered.
    pub(crate) fn finish_without_a_failure(self) -> Vec<String> {
        let mut answered = Vec::new();
        for client in self.clients {
            let output = client.finish(LIMIT).unwrap();
            let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
            assert_eq!(report["tally"]["failed"], 0, "{report}");
            assert!(report["tally"]["ok"].as_u64().unwrap() > 50, "{report}");
            let names = report["answered_by"].as_object().unwrap();
            answered.extend(names.keys().cloned());
        }
        answered
    }
}
