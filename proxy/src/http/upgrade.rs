//! Connections that change their protocol: WebSocket and others by Upgrade, CONNECT.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::response::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::Instrument;

use super::body::{Completion, ResponseBody};
use super::headers::restore_upgrade;
use super::request_info::RequestInfo;
use crate::telemetry::{RequestRecord, ResponseFlag};

/// Passes the change of protocol on to the client, and carries bytes between both ends
/// once both have changed. `completion` is held until they end: the connection is nobody
/// else's, and permits under limits are taken, as long as the bytes flow.
pub(crate) fn pass_upgrade(
    info: &RequestInfo,
    mut head: Parts,
    client: OnUpgrade,
    upstream: OnUpgrade,
    mut record: RequestRecord,
    mut completion: Completion,
) -> Response<ResponseBody> {
    if let Some(protocol) = &info.upgrade
        && head.status == StatusCode::SWITCHING_PROTOCOLS
    {
        restore_upgrade(&mut head.headers, protocol);
    }
    let carried = async move {
        let result = carry(client, upstream, &mut record).await;
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
    tokio::spawn(carried.in_current_span());
    Response::from_parts(head, ResponseBody::local(Bytes::new()))
}

async fn carry(
    client: OnUpgrade,
    upstream: OnUpgrade,
    record: &mut RequestRecord,
) -> Result<(), ResponseFlag> {
    let (client, upstream) = tokio::try_join!(client, upstream).map_err(|error| {
        tracing::debug!(%error, "the protocol was not changed after all");
        ResponseFlag::UpgradeFailed
    })?;
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    let copied = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    let (sent, received) = copied.map_err(|error| {
        tracing::debug!(%error, "a connection of another protocol broke");
        ResponseFlag::UpstreamReset
    })?;
    record.request_bytes().fetch_add(sent, Ordering::Relaxed);
    record.response_bytes(usize::try_from(received).unwrap_or(usize::MAX));
    Ok(())
}
