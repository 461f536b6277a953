//! Pods that run on this node and that the control plane has not told of: refused inbound, where
//! the operator wants it, until it has.

use std::collections::HashMap;
use std::sync::Arc;

use weft_model::workload::WorkloadUid;

use super::context::NodeContext;
use crate::namespaces::{NamespaceIdentity, NamespaceLocation, PodNamespaceError};
use crate::redirect::RedirectError;

/// A pod that is refused as unknown.
#[derive(Clone, Copy, Debug)]
struct RefusedPod {
    namespace: NamespaceIdentity,
    cookie: u64,
}

/// Refuses what arrives at pods that nobody has told of, for as long as it runs.
pub(crate) async fn refuse_unknown_pods(node: Arc<NodeContext>) {
    // Before an application listens, its pod's first process was seen.
    let _watchful = node.namespaces.watch_out();
    let mut namespaces = node.namespaces.subscribe();
    let mut mesh = node.runtime.node.store.subscribe();
    let mut refused: HashMap<String, RefusedPod> = HashMap::new();
    loop {
        namespaces.mark_unchanged();
        mesh.mark_unchanged();
        let snapshot = node.runtime.node.store.snapshot();
        let is_known = |uid: &str| snapshot.workload(&WorkloadUid::from(uid)).is_some();
        let found = node.namespaces.pods_of_processes();
        refused.retain(|uid, pod| {
            let is_there = found.get(uid) == Some(&pod.namespace);
            // Its task has taken over what was refused, or does so now.
            if !is_there && let Err(error) = node.redirect.forget_unknown(pod.cookie) {
                tracing::warn!(target: "agent", pod = uid, %error, "can't forget a pod that is gone");
            }
            is_there
        });
        for (uid, namespace) in found {
            if refused.contains_key(&uid) || is_known(&uid) {
                continue;
            }
            match refuse(&node, &uid, namespace) {
                Ok(pod) => {
                    refused.insert(uid, pod);
                }
                Err(error) => {
                    tracing::warn!(target: "agent", pod = uid, %error, "can't refuse what arrives at a pod that nobody has told of");
                }
            }
        }
        tokio::select! {
            _ = namespaces.changed() => {}
            _ = mesh.changed() => {}
        }
    }
}

/// A reason that an unknown pod can't be refused.
#[derive(Debug, thiserror::Error)]
enum RefuseError {
    #[error(transparent)]
    Namespace(#[from] PodNamespaceError),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
}

fn refuse(
    node: &NodeContext,
    uid: &str,
    found: NamespaceIdentity,
) -> Result<RefusedPod, RefuseError> {
    let location = NamespaceLocation::OfPod(uid.to_owned());
    let namespace = node.namespaces.open(&location, found)?;
    node.redirect.refuse_unknown(&namespace)?;
    Ok(RefusedPod {
        namespace: found,
        cookie: namespace.cookie(),
    })
}
