//! Connections that change their protocol: WebSocket and others by Upgrade, CONNECT.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::response::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::message::{Asked, restore_upgrade};
use super::policy::Outcome;
use super::recorder::Recorder;
use super::response::ResponseBody;
use crate::telemetry::flag::ResponseFlag;

/// Passes the change on, and carries bytes between both ends once both have changed.
pub(super) fn carry(
    asked: &Asked,
    mut head: Parts,
    client: OnUpgrade,
    upstream: OnUpgrade,
    (mut recorder, outcome): (Recorder, Outcome),
) -> Response<ResponseBody> {
    if let Some(protocol) = &asked.upgrade
        && head.status == StatusCode::SWITCHING_PROTOCOLS
    {
        restore_upgrade(&mut head.headers, protocol);
    }
    tokio::spawn(async move {
        // Its place under the limits is taken as long as it lasts.
        let _outcome = outcome;
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "the protocol was not changed after all");
                recorder.fail(ResponseFlag::UpgradeFailed);
                return;
            }
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        match tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
            Ok((sent, received)) => {
                recorder.sent.fetch_add(sent, Ordering::Relaxed);
                recorder.received(usize::try_from(received).unwrap_or(usize::MAX));
                recorder.finish();
            }
            Err(error) => {
                tracing::debug!(%error, "a connection of another protocol broke");
                recorder.fail(ResponseFlag::UpstreamReset);
            }
        }
    });
    Response::from_parts(head, ResponseBody::local(Bytes::new()))
}
