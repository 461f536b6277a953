//! A connection between two pods of this node: handed from one's outbound side to the
//! other's inbound side in this process. It never reaches a wire, so it isn't
//! encrypted; it is authorized like any other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use weft_model::policy::admit_tunnel;
use weft_model::workload::Workload;

use super::{connect, describe, refused};
use crate::connections::{Entry, StillAllowed};
use crate::error::InboundError;
use crate::net::Net;
use crate::record::{self, Connection, Outcome, Party, Path, Security};
use crate::relay::{self, End, Progress};
use crate::shared::{Admission, LocalPod, Shared};

/// A connection that the destination pod's inbound side has accepted and connected.
pub(crate) struct HandedOver<N> {
    application: TcpStream,
    connection: Arc<Connection>,
    source: Arc<Workload>,
    to: SocketAddr,
    began: Instant,
    took: Duration,
    admission: Admission<N>,
    pod: Arc<LocalPod<N>>,
}

/// Asks the destination pod's inbound side to take a connection of `source`.
pub(crate) async fn hand_over<N: Net>(
    shared: &Arc<Shared<N>>,
    pod: Arc<LocalPod<N>>,
    source: Arc<Workload>,
    client: SocketAddr,
    to: SocketAddr,
) -> Result<HandedOver<N>, InboundError> {
    let began = Instant::now();
    let workload = pod.workload(shared);
    let party = Party::workload(&source, Some(client)).proven(source.identity.clone());
    let connection = Arc::new(describe(
        &workload,
        party,
        to,
        Security::SameNode,
        Path::SameNode,
    ));
    let taken = async {
        admit_tunnel(&workload, &source.identity, to, to)?;
        let admission = pod.admit().ok_or(InboundError::TooMany)?;
        let (application, took) = connect(shared, &pod, to, client).await?;
        Ok((application, took, admission))
    };
    match taken.await {
        Ok((application, took, admission)) => {
            record::opened(&shared.metrics, &pod.started_as.uid, &connection);
            Ok(HandedOver {
                application,
                connection,
                source,
                to,
                began,
                took,
                admission,
                pod,
            })
        }
        Err(error) => {
            refused(shared, &pod, &connection, &error, began);
            Err(error)
        }
    }
}

/// Carries bytes between the two applications; `None` when either side was cut.
pub(crate) async fn carry<N: Net>(
    shared: &Arc<Shared<N>>,
    accepted: TcpStream,
    handed: HandedOver<N>,
    progress: &Arc<Progress>,
    outbound: &mut Entry,
) -> Option<End> {
    let HandedOver {
        application,
        connection,
        source,
        to,
        began,
        took,
        admission,
        pod,
    } = handed;
    let (uid, allowed) = (&pod.started_as.uid, still_allowed(source, to));
    let mut inbound =
        shared
            .connections
            .enter(Arc::clone(&connection), uid, pod.proxy, Some(allowed));
    inbound.show(progress);
    let end = tokio::select! {
        end = relay::relay_plain(accepted, application, progress, shared.settings.idle) => Some(end),
        () = outbound.cut() => None,
        () = inbound.cut() => None,
    };
    let outcome = end.map_or_else(|| Outcome::cut(took), |end| Outcome::ended(end, took));
    record::closed(&shared.metrics, uid, &connection, progress, &outcome, began);
    drop(admission);
    end
}

fn still_allowed(source: Arc<Workload>, to: SocketAddr) -> StillAllowed {
    Box::new(move |now: &Workload| admit_tunnel(now, &source.identity, to, to).is_ok())
}
