//! Bytes between a client and the application, whatever they are.

use std::sync::Arc;
use std::time::Duration;

use super::application::Admitted;
use super::arrival::Arrival;
use crate::detect::PrefixedStream;
use crate::memory::RelayMemory;
use crate::relay::{Directions, relay};
use crate::stream::Stream;
use crate::telemetry::ConnectionRecord;

/// Resolves when nobody has spoken for as long as may be.
pub(super) async fn silence(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Carries an admitted connection's bytes to its end, both ways or one.
pub(super) async fn carry(
    arrival: Arrival,
    admitted: Admitted,
    downstream: PrefixedStream,
    directions: Directions,
    record: ConnectionRecord,
) {
    let idle = arrival.idle_timeouts();
    let memory = RelayMemory::new(&arrival.pod.memory);
    // A connection of an hour keeps no snapshot alive.
    drop(arrival);
    let Admitted {
        application,
        admission: _admission,
        ..
    } = admitted;
    let application = PrefixedStream::new(Stream::Tcp(application));
    let progress = Arc::clone(record.progress());
    tokio::select! {
        reason = relay(downstream, application, directions, &progress, idle, memory) => {
            record.close(reason);
        }
        cut = record.cut() => record.cut_off(cut),
    }
}
