//! Events on objects: what `kubectl describe` shows.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::field_manager::FIELD_MANAGER;
use crate::kinds::ObjectKey;

/// Notices that wait. When the API server is slower than they come, the rest is in the
/// log only.
const WAITING: usize = 1024;

/// Something that whoever looks at an object should know.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) object: ObjectKey,
    pub(crate) uid: Option<String>,
    pub(crate) is_warning: bool,
    /// One word, such as `Captured`.
    pub(crate) reason: &'static str,
    pub(crate) note: String,
}

/// The way of notices to the API server. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Notices(mpsc::Sender<Notice>);

impl Notices {
    /// Publishes what it is told, until everybody who tells is gone. Needs a running
    /// tokio runtime.
    pub(crate) fn publish(client: Client) -> Self {
        let (sender, mut notices) = mpsc::channel::<Notice>(WAITING);
        let recorder = Recorder::new(client, Reporter::from(FIELD_MANAGER));
        tokio::spawn(async move {
            while let Some(notice) = notices.recv().await {
                let published = recorder.publish(&event(&notice), &reference(&notice)).await;
                if let Err(error) = published {
                    tracing::warn!(object = %notice.object, %error, "can't publish an event");
                }
            }
        });
        Self(sender)
    }

    /// Never waits.
    pub(crate) fn tell(&self, notice: Notice) {
        // A notice that is lost is in the log.
        let _ = self.0.try_send(notice);
    }
}

fn event(notice: &Notice) -> Event {
    Event {
        type_: if notice.is_warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: notice.reason.to_owned(),
        note: Some(notice.note.chars().take(1000).collect()),
        action: "Mesh".to_owned(),
        secondary: None,
    }
}

fn reference(notice: &Notice) -> ObjectReference {
    let name = &notice.object.name;
    ObjectReference {
        api_version: Some(notice.object.kind.api_version()),
        kind: Some(notice.object.kind.to_string()),
        name: Some(name.name.to_string()),
        namespace: Some(name.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
        uid: notice.uid.clone(),
        ..Default::default()
    }
}
