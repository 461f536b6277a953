//! Connections that change their protocol: WebSocket and others by Upgrade, CONNECT.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use weft_model::idle::IdleTimeouts;

use super::body::{Completion, ResponseBody};
use super::broken_response::{ResponseBreak, ServerEnd};
use super::headers::restore_upgrade;
use super::request_info::RequestInfo;
use crate::telemetry::{DirectionProgress, Progress, RequestRecord, ResponseFlag};

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
    completion.response_end = None;
    let client_break = completion.response_break.clone();
    let (ended, flag) = (upgrades.ended.clone(), Arc::clone(&upgrades.flag));
    let (idle, progress) = (upgrades.idle, Progress::default());
    let (sent, received) = (record.request_bytes(), Arc::<AtomicU64>::default());
    let carried = async move {
        let result = tokio::select! {
            result = carry((client, client_break), upstream, &sent, &received, &progress) => result,
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
/// was carried before it broke was carried. Where it breaks, so does the client's connection.
async fn carry(
    (client, client_break): (OnUpgrade, Option<ResponseBreak>),
    upstream: OnUpgrade,
    sent: &AtomicU64,
    received: &AtomicU64,
    progress: &Progress,
) -> Result<(), ResponseFlag> {
    let (client, upstream) = tokio::try_join!(client, upstream).map_err(|error| {
        tracing::debug!(%error, "the protocol was not changed after all");
        ResponseFlag::UpgradeFailed
    })?;
    let count = |counter: &AtomicU64, direction: DirectionProgress<'_>, bytes: &[u8]| {
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match bytes.len() {
            // Read at its end.
            0 => direction.end(),
            length => direction.add(length),
        }
    };
    let mut client = InspectReader::new(TokioIo::new(client), |bytes: &[u8]| {
        count(sent, progress.sending(), bytes);
    });
    let mut upstream = InspectReader::new(TokioIo::new(upstream), |bytes: &[u8]| {
        count(received, progress.receiving(), bytes);
    });
    let copied = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    let Err(error) = copied else {
        return Ok(());
    };
    tracing::debug!(%error, "a connection of another protocol broke");
    if let Some(client_break) = client_break
        && client_break.poll_passed_on(ServerEnd::Reset).is_pending()
    {
        // That breaks it off behind what was sent; it may be the one that broke.
        let _ = client.flush().await;
    }
    Err(ResponseFlag::UpstreamReset)
}
