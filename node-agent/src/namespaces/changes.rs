//! Notice of changes: something woke up, look again.

use std::sync::Arc;

use tokio::sync::watch;

/// Notice that some namespace may have come, gone, changed or become free. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct ChangeNotice(Arc<watch::Sender<()>>);

impl ChangeNotice {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }

    /// Wakes everybody who waits.
    pub(super) fn notify(&self) {
        self.0.send_replace(());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}
