//! The label `weft.dev/ebpf` of nodes, by which every replica, and whoever schedules pods, knows
//! which nodes can capture.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{ApiResource, Patch};
use serde_json::json;
use weft_model::NamespacedName;

use crate::cluster::Cluster;
use crate::kinds::EBPF;
use crate::status::{StatusPatch, StatusQueue, write_queued};

/// Labels on their way to the API server, by node.
#[derive(Debug, Default)]
pub(super) struct NodeLabels {
    queue: Arc<StatusQueue<String, bool>>,
}

impl NodeLabels {
    /// Writes in the background. Needs a running tokio runtime.
    pub(super) fn start(&self, client: Client) {
        let queue = Arc::clone(&self.queue);
        tokio::spawn(async move {
            let write = |node: String, can_capture| {
                let client = client.clone();
                async move { patch(&node, can_capture).write(&client).await }
            };
            write_queued(&queue, write).await;
        });
    }

    /// Has a node say so that doesn't yet.
    pub(super) fn set(&self, cluster: &Cluster, node: &str, can_capture: bool) {
        if cluster.can_capture(node) != Some(can_capture) {
            tracing::info!(
                node,
                can_capture,
                "an agent has tried what its node lets it do"
            );
            self.queue.push(node.to_owned(), can_capture);
        }
    }
}

/// By the subresource: it can't change a node's spec.
fn patch(node: &str, can_capture: bool) -> StatusPatch {
    let labels = json!({ EBPF: can_capture.to_string() });
    StatusPatch {
        resource: ApiResource::erase::<Node>(&()),
        name: NamespacedName::new("", node),
        patch: Patch::Merge(json!({ "metadata": { "labels": labels } })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifest::parse;
    use crate::source::{Event, Origin};

    #[test]
    fn a_label_is_written_where_it_is_another_and_nothing_else_of_the_node() {
        let cluster = Cluster::of_directory();
        let text = "apiVersion: v1\nkind: Node\nmetadata: { name: a, labels: { weft.dev/ebpf: 'true' } }\n";
        let node = parse(text).unwrap().remove(0);
        cluster.apply_events(vec![Event::Applied(Origin::new(), node)]);
        let labels = NodeLabels::default();
        labels.set(&cluster, "a", true);
        assert_eq!(labels.queue.pop(|_| true), None);
        labels.set(&cluster, "a", false);
        labels.set(&cluster, "new", true);
        let written: Vec<_> = std::iter::from_fn(|| labels.queue.pop(|_| true)).collect();
        assert_eq!(written, [("a".to_owned(), false), ("new".to_owned(), true)]);
        let Patch::Merge(merge) = patch("a", false).patch else {
            panic!("no merge");
        };
        assert_eq!(
            merge,
            json!({ "metadata": { "labels": { "weft.dev/ebpf": "false" } } })
        );
    }
}
