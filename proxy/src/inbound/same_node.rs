//! A connection between two pods of this node: handed from one's outbound side to the
//! other's inbound side in this process. It never reaches a wire, so it isn't
//! encrypted; it is authorized like any other.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use weft_model::authorization::authorize_tunnel;
use weft_model::workload::{Workload, WorkloadUid};

use super::{connect, describe, refused};
use crate::connections::{Entry, StillAllowed};
use crate::error::InboundError;
use crate::metrics::Metrics;
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
        authorize_tunnel(&workload, &source.identity, to, to)?;
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

impl<N> HandedOver<N> {
    /// Waits until the application says something, or ends.
    pub(crate) async fn speaks(&self) {
        let _ = self.application.readable().await;
    }
}

impl<N: Net> HandedOver<N> {
    /// The application's socket for a connection that carries requests, and what records
    /// it when it ends.
    pub(crate) fn into_parts(self, shared: &Arc<Shared<N>>) -> (TcpStream, Carried) {
        let (uid, allowed) = (
            self.pod.started_as.uid.clone(),
            still_allowed(self.source, self.to),
        );
        let entry = shared.connections.enter(
            Arc::clone(&self.connection),
            &uid,
            self.pod.proxy,
            Some(allowed),
        );
        let cut = Box::pin(entry.signal());
        let carried = Carried {
            metrics: Arc::clone(&shared.metrics),
            connection: self.connection,
            uid,
            began: self.began,
            took: self.took,
            entry,
            cut,
            was_cut: false,
            _admission: Box::new(self.admission),
        };
        (self.application, carried)
    }
}

/// A connection that carries requests to a pod of this node; recorded when dropped.
pub(crate) struct Carried {
    metrics: Arc<Metrics>,
    connection: Arc<Connection>,
    uid: WorkloadUid,
    began: Instant,
    took: Duration,
    entry: Entry,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    was_cut: bool,
    _admission: Box<dyn Send>,
}

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carried")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Carried {
    /// Bytes carried so far.
    pub(crate) fn progress(&self) -> &Progress {
        &self.entry.progress
    }

    /// Ready once policy does not allow the connection any more.
    pub(crate) fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.was_cut {
            ready!(self.cut.as_mut().poll(context));
            self.was_cut = true;
        }
        Poll::Ready(())
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let outcome = match self.was_cut {
            true => Outcome::cut(self.took),
            false => Outcome::ended(End::Finished, self.took),
        };
        let (connection, progress) = (&self.connection, &self.entry.progress);
        let (metrics, uid) = (&self.metrics, &self.uid);
        record::closed(metrics, uid, connection, progress, &outcome, self.began);
    }
}

fn still_allowed(source: Arc<Workload>, to: SocketAddr) -> StillAllowed {
    Box::new(move |now: &Workload| authorize_tunnel(now, &source.identity, to, to).is_ok())
}
