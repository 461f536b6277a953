//! Plaintext that arrives for a pod.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use weft_model::address::canonical;
use weft_model::authorization::{PlaintextOrigin, authorize_plaintext};
use weft_model::workload::Workload;

use super::{connect, describe, refused};
use crate::connections::StillAllowed;
use crate::net::Net;
use crate::record::{self, Outcome, Party, Path, Security};
use crate::relay;
use crate::shared::{LocalPod, Shared};

/// Serves one plaintext connection to its end.
pub(crate) async fn serve<N: Net>(
    shared: Arc<Shared<N>>,
    pod: Arc<LocalPod<N>>,
    accepted: TcpStream,
    peer: SocketAddr,
) {
    let began = Instant::now();
    let workload = pod.workload(&shared);
    let (peer, uid) = (canonical(peer), &pod.started_as.uid);
    // Steered connections keep the address that they were made to; others were made
    // to the proxy's own port and lead nowhere.
    let to = accepted
        .local_addr()
        .ok()
        .map(canonical)
        .filter(|to| workload.has_address(to.ip()));
    let Some(to) = to else {
        relay::reset_on_close(&accepted);
        return;
    };
    let origin = pod.net.plaintext_origin(&accepted);
    let known = shared
        .store
        .snapshot()
        .workload_by_address(peer.ip())
        .map(Arc::clone);
    let source = Party::known(known.as_ref(), peer);
    let connection = Arc::new(describe(
        &workload,
        source,
        to,
        Security::Plaintext,
        Path::Outside,
    ));
    let connected = match authorize_plaintext(workload.mtls_mode, origin) {
        Ok(()) => connect(&shared, &pod, to, peer).await,
        Err(error) => Err(error.into()),
    };
    let (application, took) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            relay::reset_on_close(&accepted);
            drop(accepted);
            refused(&shared, &pod, &connection, &error, began);
            return;
        }
    };
    record::opened(&shared.metrics, uid, &connection);
    let allowed = still_allowed(origin);
    let mut entry =
        shared
            .connections
            .enter(Arc::clone(&connection), uid, pod.proxy, Some(allowed));
    let progress = Arc::clone(&entry.progress);
    let outcome = tokio::select! {
        end = relay::relay_plain(accepted, application, &progress, shared.settings.idle) => {
            Outcome::ended(end, took)
        }
        () = entry.cut() => Outcome::cut(took),
    };
    record::closed(
        &shared.metrics,
        uid,
        &connection,
        &progress,
        &outcome,
        began,
    );
}

/// A workload may turn strict while the connection lasts.
fn still_allowed(origin: PlaintextOrigin) -> StillAllowed {
    Box::new(move |now: &Workload| authorize_plaintext(now.mtls_mode, origin).is_ok())
}
