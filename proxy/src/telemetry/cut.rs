//! Telling whoever serves a connection that it has to go.

use std::sync::OnceLock;

use tokio::sync::Notify;

use super::outcome::CutReason;

/// Tells whoever serves a connection that it has to go; given at most once.
#[derive(Debug, Default)]
pub(super) struct CutSignal {
    reason: OnceLock<CutReason>,
    given: Notify,
}

impl CutSignal {
    /// Gives the signal; an earlier reason stays.
    pub(super) fn give(&self, reason: CutReason) {
        if self.reason.set(reason).is_ok() {
            self.given.notify_waiters();
        }
    }

    /// Why the connection has to go, where it has.
    pub(super) fn reason(&self) -> Option<CutReason> {
        self.reason.get().copied()
    }

    /// Resolves when the connection has to go.
    pub(super) async fn wait(&self) -> CutReason {
        loop {
            // Made before looking, it misses nothing that is given after.
            let given = self.given.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            given.await;
        }
    }
}
