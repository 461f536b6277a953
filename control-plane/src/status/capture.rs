//! The condition `weft.dev/Captured` of pods. It is how every replica of the control
//! plane knows what one of them was told by an agent, and how it outlives all of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;

use super::{FIELD_MANAGER, Notice, Notices};
use crate::kinds::{CAPTURED_CONDITION, KindObject, ObjectKey, PodObject};
use crate::state::Captured;

/// Writes at a time.
const WRITERS: usize = 16;
/// Wait after a failure; the agent's next report may supersede the write meanwhile.
const RETRY: Duration = Duration::from_secs(1);

/// What a node says of one of its pods.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PodCapture {
    pub(crate) pod: NamespacedName,
    pub(crate) uid: WorkloadUid,
    pub(crate) captured: Captured,
}

/// Writes conditions in the background; the latest state of a pod wins.
#[derive(Clone, Debug)]
pub(crate) struct CaptureWriter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<WorkloadUid, PodCapture>,
    /// Pods that are being written right now; their next state waits.
    writing: HashSet<WorkloadUid>,
    /// By node, what was reported over its present stream. The API server's view lags
    /// behind that.
    reported: HashMap<String, HashMap<WorkloadUid, Captured>>,
}

impl CaptureWriter {
    /// Starts to write. Needs a running tokio runtime.
    pub(crate) fn start(client: Client, notices: Notices) -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(write_all(Arc::clone(&shared), client, notices));
        Self { shared }
    }

    /// A node reports one of its pods. `known` is what the API server says of it. Never
    /// waits.
    pub(crate) fn report(&self, node: &str, capture: PodCapture, known: bool) {
        let mut queue = self.shared.lock();
        let reported = queue.reported.entry(node.to_owned()).or_default();
        let before = reported.insert(capture.uid.clone(), capture.captured.clone());
        let is_news = match (before, &capture.captured) {
            (Some(before), now) => before != *now,
            (None, Captured::Yes) => !known,
            (None, Captured::No) => known,
            (None, Captured::Failed(_)) => true,
        };
        if is_news {
            queue.waiting.insert(capture.uid.clone(), capture);
            drop(queue);
            self.shared.more.notify_one();
        }
    }

    /// A node has a new stream, or none: what it reported before may have been
    /// overtaken by what it told another replica.
    pub(crate) fn forget(&self, node: &str) {
        self.shared.lock().reported.remove(node);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next write, if there is one that may begin.
    fn take(&self) -> Option<PodCapture> {
        let mut queue = self.lock();
        let free = queue
            .waiting
            .keys()
            .find(|uid| !queue.writing.contains(*uid));
        let uid = free.cloned()?;
        queue.writing.insert(uid.clone());
        queue.waiting.remove(&uid)
    }

    fn done(&self, capture: PodCapture, again: bool) {
        let mut queue = self.lock();
        queue.writing.remove(&capture.uid);
        if again {
            // Unless there is something newer.
            queue.waiting.entry(capture.uid.clone()).or_insert(capture);
        }
        drop(queue);
        self.more.notify_one();
    }
}

async fn write_all(shared: Arc<Shared>, client: Client, notices: Notices) {
    let writers = Arc::new(Semaphore::new(WRITERS));
    loop {
        let Some(capture) = shared.take() else {
            shared.more.notified().await;
            continue;
        };
        let Ok(writer) = Arc::clone(&writers).acquire_owned().await else {
            return;
        };
        let (shared, client, notices) = (Arc::clone(&shared), client.clone(), notices.clone());
        tokio::spawn(async move {
            let again = match write(&client, &capture).await {
                Ok(()) => {
                    notices.tell(notice(&capture));
                    false
                }
                // Gone, or another pod of that name by now.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => false,
                Err(error) => {
                    tracing::warn!(pod = %capture.pod, %error, "can't write whether the pod is captured; trying again");
                    tokio::time::sleep(RETRY).await;
                    true
                }
            };
            drop(writer);
            shared.done(capture, again);
        });
    }
}

async fn write(client: &Client, capture: &PodCapture) -> Result<(), kube::Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), &capture.pod.namespace);
    let (status, reason, message) = match &capture.captured {
        Captured::Yes => ("True", "Captured", ""),
        Captured::No => ("False", "Released", ""),
        Captured::Failed(why) => ("False", "CaptureFailed", why.as_str()),
    };
    let patch = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        // With the UID, a new pod of this name is a conflict.
        "metadata": { "name": capture.pod.name, "uid": capture.uid.as_str() },
        "status": { "conditions": [{
            "type": CAPTURED_CONDITION,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }] },
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    pods.patch_status(&capture.pod.name, &parameters, &Patch::Apply(&patch))
        .await
        .map(drop)
}

fn notice(capture: &PodCapture) -> Notice {
    let (is_warning, reason, note) = match &capture.captured {
        Captured::Yes => (false, "Captured", "The pod is in the mesh".to_owned()),
        Captured::No => (false, "Released", "The pod has left the mesh".to_owned()),
        Captured::Failed(why) => (true, "CaptureFailed", why.clone()),
    };
    Notice {
        object: ObjectKey {
            kind: PodObject::KIND,
            name: capture.pod.clone(),
        },
        uid: Some(capture.uid.to_string()),
        is_warning,
        reason,
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> CaptureWriter {
        CaptureWriter {
            shared: Arc::default(),
        }
    }

    fn capture(captured: Captured) -> PodCapture {
        PodCapture {
            pod: NamespacedName::new("shop", "web"),
            uid: WorkloadUid::from("1"),
            captured,
        }
    }

    #[test]
    fn what_the_api_server_says_already_is_not_written() {
        let writer = writer();
        writer.report("n", capture(Captured::Yes), true);
        assert_eq!(writer.shared.take(), None);
        writer.report("n", capture(Captured::No), true);
        assert!(writer.shared.take().is_some());
    }

    #[test]
    fn a_report_counts_more_than_what_the_api_server_still_says() {
        let writer = writer();
        writer.report("n", capture(Captured::Yes), false);
        let first = writer.shared.take().unwrap();
        // Not written yet, so the API server says no; but the next must not be lost.
        writer.report("n", capture(Captured::No), false);
        assert_eq!(writer.shared.take(), None, "two writes of one pod at once");
        writer.shared.done(first, false);
        assert_eq!(writer.shared.take(), Some(capture(Captured::No)));
    }

    #[test]
    fn a_failed_write_is_repeated_unless_there_is_something_newer() {
        let writer = writer();
        writer.report("n", capture(Captured::Yes), false);
        let first = writer.shared.take().unwrap();
        writer.shared.done(first.clone(), true);
        assert_eq!(writer.shared.take(), Some(first.clone()));
        writer.report("n", capture(Captured::No), false);
        writer.shared.done(first, true);
        assert_eq!(writer.shared.take(), Some(capture(Captured::No)));
    }

    #[test]
    fn after_a_new_stream_the_api_server_counts_again() {
        let writer = writer();
        writer.report("n", capture(Captured::Yes), false);
        let first = writer.shared.take().unwrap();
        writer.shared.done(first, false);
        writer.report("n", capture(Captured::Yes), false);
        assert_eq!(writer.shared.take(), None);
        writer.forget("n");
        writer.report("n", capture(Captured::Yes), false);
        assert!(writer.shared.take().is_some());
    }

    #[test]
    fn each_new_reason_of_a_failure_is_told() {
        let writer = writer();
        let failed = |why: &str| capture(Captured::Failed(why.to_owned()));
        for why in ["no namespace", "no certificate"] {
            writer.report("n", failed(why), false);
            assert_eq!(writer.shared.take(), Some(failed(why)), "{why}");
            writer.shared.done(failed(why), false);
            writer.report("n", failed(why), false);
            assert_eq!(writer.shared.take(), None, "{why}");
        }
    }
}
