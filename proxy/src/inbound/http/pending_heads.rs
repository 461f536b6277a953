//! Requests that wait for the head of their response.

use tokio::sync::watch;

/// How many requests of a connection wait for the head of their response.
#[derive(Debug, Default)]
pub(super) struct PendingHeads(watch::Sender<usize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct PendingHead(watch::Sender<usize>);

impl PendingHeads {
    /// A request came.
    pub(super) fn begin(&self) -> PendingHead {
        self.0.send_modify(|pending| *pending += 1);
        PendingHead(self.0.clone())
    }

    /// Resolves when none waits.
    pub(super) async fn none(&self) {
        // The sender is here: it can't be gone.
        let _ = self.0.subscribe().wait_for(|pending| *pending == 0).await;
    }
}

impl Drop for PendingHead {
    fn drop(&mut self) {
        self.0.send_modify(|pending| *pending -= 1);
    }
}
