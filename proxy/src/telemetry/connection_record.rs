//! The record of a connection: made when it is accepted, closed exactly once.
//!
//! ```text
//! start ──> opened ──> close(reason)      it carried bytes and ended
//!   │         │  └───> cut_off(reason)    it was cut: policy changed, or the proxy ends
//!   │         └──────> fail(flag, error)  it broke with an error of its own
//!   └─────> fail(flag, error)             it never carried a byte
//! ```
//!
//! A record that is dropped without one of these was dropped together with its task: the
//! proxy ended before the connection did, and that is what is recorded.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access_log;
use super::authorization::AuthorizationNote;
use super::cut::CutSignal;
use super::flag::ResponseFlag;
use super::info::ConnectionInfo;
use super::metrics::connections::ConnectionSeries;
use super::metrics::verdicts::VerdictSubject;
use super::node_telemetry::PodTelemetry;
use super::outcome::{CloseReason, ConnectionOutcome, CutReason, Outcome};
use super::progress::{ByteCount, Progress};
use super::table::{NewConnection, StillAllowed, TableEntry};

/// The record of one accepted connection. From [`opened`](Self::opened) to its end the
/// connection is listed, can be cut, and its bytes are counted as they move.
#[must_use = "dropped without an exit it says that the proxy ended"]
pub(crate) struct ConnectionRecord {
    pod: PodTelemetry,
    info: Arc<ConnectionInfo>,
    began: Instant,
    progress: Arc<Progress>,
    authorization: AuthorizationNote,
    stage: Stage,
}

enum Stage {
    /// Nothing is counted yet.
    Accepted,
    /// Client and destination are connected; the first bytes will tell what it carries.
    Connected { entry: TableEntry },
    /// Carried as it is.
    Carried {
        entry: TableEntry,
        series: Arc<ConnectionSeries>,
        connect_time: Duration,
    },
    /// Its requests are counted one by one.
    Http { entry: TableEntry },
    /// Nothing more is to be counted.
    Closed,
}

impl fmt::Debug for ConnectionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionRecord")
            .field("info", &self.info)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl ConnectionRecord {
    /// A connection was accepted. Nothing is counted yet.
    pub(crate) fn start(pod: &PodTelemetry, info: Arc<ConnectionInfo>, began: Instant) -> Self {
        Self {
            pod: pod.clone(),
            info,
            began,
            progress: Arc::default(),
            authorization: AuthorizationNote::default(),
            stage: Stage::Accepted,
        }
    }

    /// AuthorizationPolicies were asked about it.
    pub(crate) fn set_authorization(&mut self, note: AuthorizationNote) {
        self.pod
            .metrics()
            .count_verdicts(&note, VerdictSubject::Connection);
        self.authorization = note;
    }

    /// Destination and client are connected, and from now on bytes are carried as they
    /// are. `still_allowed` is asked again on every change of the mesh; without it the
    /// connection stays whatever changes.
    pub(crate) fn opened(&mut self, connect_time: Duration, still_allowed: Option<StillAllowed>) {
        self.connected(still_allowed);
        self.opened_connected(connect_time);
    }

    /// The connection carries requests, which have records of their own: it is counted
    /// apart, and logged only when it fails.
    pub(crate) fn opened_for_requests(&mut self, still_allowed: Option<StillAllowed>) {
        self.connected(still_allowed);
        self.opened_connected_for_requests();
    }

    /// Destination and client are connected, and what the connection carries is still to
    /// be found out: it is listed and can be cut, and nothing is counted yet.
    pub(crate) fn connected(&mut self, still_allowed: Option<StillAllowed>) {
        let entry = self.pod.connections().enter(NewConnection {
            info: Arc::clone(&self.info),
            progress: Arc::clone(&self.progress),
            still_allowed,
        });
        self.stage = Stage::Connected { entry };
    }

    /// A [`connected`](Self::connected) one carries bytes as they are.
    pub(crate) fn opened_connected(&mut self, connect_time: Duration) {
        if let Some(entry) = self.take_connected() {
            let series = self.pod.metrics().connection(&self.info);
            series.opened();
            entry.count_in(Arc::clone(&series));
            self.stage = Stage::Carried {
                entry,
                series,
                connect_time,
            };
        }
    }

    /// A [`connected`](Self::connected) one carries requests.
    pub(crate) fn opened_connected_for_requests(&mut self) {
        if let Some(entry) = self.take_connected() {
            let metrics = self.pod.metrics();
            metrics.count_http_connection_opened(self.info.direction);
            self.stage = Stage::Http { entry };
        }
    }

    fn take_connected(&mut self) -> Option<TableEntry> {
        match std::mem::replace(&mut self.stage, Stage::Accepted) {
            Stage::Connected { entry } => Some(entry),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Bytes carried so far, to be counted by whoever carries them.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Shows and counts the bytes of another record, whose connection is the other half of
    /// this one: both ends of a same-node connection are in one process.
    pub(crate) fn share_progress(&mut self, progress: Arc<Progress>) {
        if let Some(entry) = self.entry() {
            entry.share_progress(Arc::clone(&progress));
        }
        self.progress = progress;
    }

    /// Resolves when the connection has to go; never before it is opened.
    pub(crate) async fn cut(&self) -> CutReason {
        match self.entry() {
            Some(entry) => entry.cut().wait().await,
            None => std::future::pending().await,
        }
    }

    /// The same for whoever holds no record.
    pub(crate) fn cut_signal(&self) -> impl Future<Output = CutReason> + Send + Sync + 'static {
        let cut = self.entry().map(|entry| Arc::clone(entry.cut()));
        wait_for_cut(cut)
    }

    /// The connection ended.
    pub(crate) fn close(mut self, reason: CloseReason) {
        self.finish(reason.into());
    }

    /// The connection was cut.
    pub(crate) fn cut_off(mut self, reason: CutReason) {
        self.finish(reason.into());
    }

    /// The connection failed: before it was opened, or later with an error of its own.
    pub(crate) fn fail(mut self, flag: ResponseFlag, error: &dyn Error) {
        self.finish(Outcome::failed(flag, error));
    }

    fn entry(&self) -> Option<&TableEntry> {
        match &self.stage {
            Stage::Connected { entry } | Stage::Carried { entry, .. } | Stage::Http { entry } => {
                Some(entry)
            }
            Stage::Accepted | Stage::Closed => None,
        }
    }

    fn cut_reason(&self) -> Option<CutReason> {
        self.entry().and_then(|entry| entry.cut().reason())
    }

    /// The one exit: counts, then logs.
    fn finish(&mut self, outcome: Outcome) {
        let (metrics, info, flag) = (self.pod.metrics(), &self.info, outcome.flag);
        let tcp = self.progress.tcp();
        let (bytes, connect_time) = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Closed => return,
            Stage::Accepted => {
                metrics.count_failed_connection(info, flag);
                (ByteCount::default(), None)
            }
            Stage::Connected { entry } => {
                metrics.count_failed_connection(info, flag);
                (entry.leave(), None)
            }
            Stage::Carried {
                entry,
                series,
                connect_time,
            } => {
                let bytes = entry.leave();
                if let Some(report) = tcp.of_peer(info.direction) {
                    series.reported(report);
                }
                match flag {
                    ResponseFlag::None => series.closed(),
                    flag => metrics.count_broken_connection(info, flag),
                }
                (bytes, Some(connect_time))
            }
            Stage::Http { entry } => {
                let bytes = entry.leave();
                metrics.count_http_connection_closed(info.direction, flag);
                if flag == ResponseFlag::None {
                    return;
                }
                (bytes, None)
            }
        };
        access_log::write_connection(
            &self.pod,
            info,
            &ConnectionOutcome {
                authorization: &self.authorization,
                outcome: &outcome,
                bytes,
                tcp: &tcp,
                connect_time,
                duration: self.began.elapsed(),
            },
        );
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Closed) {
            let reason = self.cut_reason().unwrap_or(CutReason::ProxyStopped);
            self.finish(reason.into());
        }
    }
}

/// Resolves when the signal is given; never without one.
async fn wait_for_cut(cut: Option<Arc<CutSignal>>) -> CutReason {
    match cut {
        Some(cut) => cut.wait().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
