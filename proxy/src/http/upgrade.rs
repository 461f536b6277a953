//! Connections that change their protocol: WebSocket and others by Upgrade, CONNECT.

mod carried_end;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use weft_model::idle::IdleTimeouts;

use self::carried_end::CarriedEnd;
use super::body::{Completion, ResponseBody};
use super::broken_response::ResponseBreak;
use super::headers::restore_upgrade;
use super::request_info::RequestInfo;
use crate::telemetry::{Progress, RequestRecord, ResponseFlag};

/// What became of a client's connection by changes of protocol. Whoever serves the connection
/// owns it, waits for its end, and ends it by dropping it: what a connection holds, and
/// whatever ends it, is the same for all protocols on it.
#[derive(Debug, Default)]
pub(crate) struct Upgrades(UpgradeTasks);

/// Where changes of protocol are begun.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpgradeTasks {
    tasks: TaskTracker,
    ended: CancellationToken,
    flag: Arc<OnceLock<ResponseFlag>>,
    /// How long the bytes of another protocol may pause.
    idle: IdleTimeouts,
}

/// A change of protocol that both ends have agreed on.
pub(crate) struct ProtocolChange<D> {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: OnUpgrade,
    /// Resolves when policy doesn't allow the connection any more; never where its own record
    /// is asked for that.
    pub(crate) denied: D,
}

impl Upgrades {
    /// None yet. The bytes of each may pause for that long.
    pub(crate) fn new(idle: IdleTimeouts) -> Self {
        Self(UpgradeTasks {
            idle,
            ..UpgradeTasks::default()
        })
    }

    /// Where they are begun, for whoever answers requests.
    pub(crate) fn tasks(&self) -> UpgradeTasks {
        self.0.clone()
    }

    /// Waits until no bytes of another protocol flow. Nothing begins any more.
    pub(crate) async fn finished(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Ends them, for that reason.
    pub(crate) fn end(&self, flag: ResponseFlag) {
        // The first reason counts.
        let _ = self.0.flag.set(flag);
        self.0.ended.cancel();
    }
}

impl Drop for Upgrades {
    fn drop(&mut self) {
        self.end(ResponseFlag::ProxyStopped);
    }
}

/// Passes the change of protocol on to the client, and carries bytes between both ends
/// once both have changed. `completion` is held until they end: the connection is nobody
/// else's, and permits under limits are taken, as long as the bytes flow.
pub(crate) fn pass_upgrade(
    upgrades: &UpgradeTasks,
    info: &RequestInfo,
    mut head: Parts,
    change: ProtocolChange<impl Future<Output = ()> + Send + 'static>,
    mut record: RequestRecord,
    mut completion: Completion,
) -> Response<ResponseBody> {
    // The bytes behind the head are of no body, whatever it says (RFC 9110 section 9.3.6).
    head.headers.remove(CONTENT_LENGTH);
    if let Some(protocol) = &info.upgrade
        && head.status == StatusCode::SWITCHING_PROTOCOLS
    {
        restore_upgrade(&mut head.headers, protocol);
    }
    let ProtocolChange {
        client,
        upstream,
        denied,
    } = change;
    // Both ends of the other protocol are passed on as they come.
    let server_break = completion.response_end.take();
    let server_break = server_break.map(|end| end.server_break());
    let breaks = [completion.response_break.clone(), server_break];
    let (ended, flag) = (upgrades.ended.clone(), Arc::clone(&upgrades.flag));
    let (idle, progress) = (upgrades.idle, Progress::default());
    let (sent, received) = (record.request_bytes(), Arc::<AtomicU64>::default());
    let carried = async move {
        let result = tokio::select! {
            result = carry([client, upstream], breaks, [&sent, &received], &progress) => result,
            () = progress.idle(idle) => Err(ResponseFlag::IdleTimeout),
            () = denied => Err(ResponseFlag::PolicyChanged),
            () = ended.cancelled() => {
                Err(flag.get().copied().unwrap_or(ResponseFlag::ProxyStopped))
            }
        };
        let received = received.load(Ordering::Relaxed);
        let received = usize::try_from(received).unwrap_or(usize::MAX);
        record.response_bytes(received);
        completion.body_bytes(received);
        match (result, &mut completion.receiving) {
            (Ok(()), Some(receiving)) => receiving.finish(),
            (Err(flag), Some(receiving)) => receiving.fail(flag),
            (_, None) => {}
        }
        match result {
            Ok(()) => record.finish(),
            Err(flag) => record.fail(flag),
        }
    };
    upgrades.tasks.spawn(carried.in_current_span());
    Response::from_parts(head, ResponseBody::local(Bytes::new()))
}

/// Carries bytes both ways until both ends have finished, and counts them as they come: what
/// was carried before it broke was carried. Where either end breaks, so does the other, and so do
/// both when nobody waits for this any more.
async fn carry(
    [client, upstream]: [OnUpgrade; 2],
    breaks: [Option<ResponseBreak>; 2],
    [sent, received]: [&AtomicU64; 2],
    progress: &Progress,
) -> Result<(), ResponseFlag> {
    let (client, upstream) = tokio::try_join!(client, upstream).map_err(|error| {
        tracing::debug!(%error, "the protocol was not changed after all");
        ResponseFlag::UpgradeFailed
    })?;
    let set_open_ended = |is_under_way| {
        for connection in breaks.iter().flatten() {
            connection.set_open_ended(is_under_way);
        }
    };
    set_open_ended(true);
    let [of_client, of_upstream] = breaks.clone();
    let mut client = CarriedEnd::new(client, of_client, sent, progress.sending());
    let mut upstream = CarriedEnd::new(upstream, of_upstream, received, progress.receiving());
    let copied = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    let Err(error) = copied else {
        set_open_ended(false);
        return Ok(());
    };
    tracing::debug!(%error, "a connection of another protocol broke");
    tokio::join!(client.break_off(), upstream.break_off());
    Err(match client.is_broken() {
        true => ResponseFlag::DownstreamReset,
        false => ResponseFlag::UpstreamReset,
    })
}
