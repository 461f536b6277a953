//! How the sidecar ends: it serves as long as others in the pod may need it, lets connections end,
//! and is gone.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use weft_proxy::PodProxy;

use crate::pod::has_application_sockets;

/// Time between two looks at the pod's sockets.
const INTERVAL: Duration = Duration::from_millis(100);

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum DrainState {
    /// It serves.
    #[default]
    Serving,
    /// It was told to drain, and to stay until it is told to stop.
    Draining,
    /// It was told to drain and to exit.
    Quitting,
    /// No connection is left.
    Drained,
}

impl DrainState {
    /// Its name on pages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining | Self::Quitting => "draining",
            Self::Drained => "drained",
        }
    }
}

/// The state, as pages ask for it and change it.
#[derive(Debug, Default)]
pub(super) struct Drains(watch::Sender<DrainState>);

impl Drains {
    /// It has come that far, or shall; it never goes back.
    pub(super) fn want(&self, wanted: DrainState) {
        self.0.send_if_modified(|state| {
            let is_news = wanted > *state;
            *state = wanted.max(*state);
            is_news
        });
    }

    /// How far it has come.
    pub(super) fn state(&self) -> DrainState {
        *self.0.borrow()
    }

    /// Returns once it is told to drain, with whether it exits after that.
    pub(super) async fn told(&self) -> bool {
        let mut state = self.0.subscribe();
        let told = state.wait_for(|state| *state > DrainState::Serving).await;
        // The sender is `self`.
        told.is_ok_and(|state| *state == DrainState::Quitting)
    }
}

/// Serves on while the others in the pod have sockets, then lets connections end; all that no
/// longer than until the deadline.
pub(super) async fn drain(proxy: PodProxy, proxy_uid: u32, deadline: Duration) {
    let until = Instant::now() + deadline;
    while has_application_sockets(proxy_uid) && Instant::now() < until {
        tokio::time::sleep(INTERVAL).await;
    }
    proxy.drain(until - Instant::now()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_told_last_holds_unless_it_was_less() {
        let drains = Drains::default();
        assert_eq!(drains.state().name(), "serving");
        drains.want(DrainState::Draining);
        assert!(!drains.told().await);
        drains.want(DrainState::Quitting);
        drains.want(DrainState::Draining);
        assert!(drains.told().await);
        drains.want(DrainState::Drained);
        assert_eq!(drains.state().name(), "drained");
    }
}
