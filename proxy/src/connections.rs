//! Connections that are open now: to look at, and to cut when policy changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use weft_model::workload::{Workload, WorkloadUid};

use crate::record::Connection;
use crate::relay::Progress;

/// Asked again whenever the mesh changes: may this connection still be there?
pub(crate) type StillAllowed = Box<dyn Fn(&Workload) -> bool + Send + Sync>;

/// One open connection.
struct Open {
    connection: Arc<Connection>,
    progress: Arc<Progress>,
    /// The local pod that it belongs to.
    pod: WorkloadUid,
    /// Which of that pod's proxies: an earlier one may still be draining.
    proxy: ProxyId,
    still_allowed: Option<StillAllowed>,
    cut: watch::Sender<bool>,
}

/// One run of a pod's proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProxyId(u64);

/// All open connections of this process.
#[derive(Default)]
pub struct ConnectionTable {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

impl std::fmt::Debug for ConnectionTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionTable")
            .field("open", &self.len())
            .finish()
    }
}

/// A connection's entry; gone when dropped.
pub(crate) struct Entry {
    table: Arc<ConnectionTable>,
    id: u64,
    cut: watch::Receiver<bool>,
    /// Bytes carried so far.
    pub(crate) progress: Arc<Progress>,
}

/// What `/connections` shows of one.
#[derive(Debug, Serialize)]
pub struct OpenConnection {
    #[serde(flatten)]
    connection: Arc<Connection>,
    bytes_sent: u64,
    bytes_received: u64,
}

impl ConnectionTable {
    /// An id for one more proxy.
    pub(crate) fn proxy_id(&self) -> ProxyId {
        ProxyId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Enters a connection of a local pod. `still_allowed` is asked again on every
    /// change; without it the connection stays whatever changes.
    pub(crate) fn enter(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        pod: &WorkloadUid,
        proxy: ProxyId,
        still_allowed: Option<StillAllowed>,
    ) -> Entry {
        let (id, progress) = (
            self.next.fetch_add(1, Ordering::Relaxed),
            Arc::<Progress>::default(),
        );
        let (sender, cut) = watch::channel(false);
        let open = Open {
            connection,
            progress: Arc::clone(&progress),
            pod: pod.clone(),
            proxy,
            still_allowed,
            cut: sender,
        };
        self.lock().insert(id, open);
        Entry {
            table: Arc::clone(self),
            id,
            cut,
            progress,
        }
    }

    /// Cuts the connections of a pod that are not allowed any more.
    pub(crate) fn recheck(&self, workload: &Workload) {
        let open = self.lock();
        let of_pod = open.values().filter(|open| open.pod == workload.uid);
        for connection in of_pod {
            if connection
                .still_allowed
                .as_ref()
                .is_some_and(|allowed| !allowed(workload))
            {
                connection.cut.send_replace(true);
            }
        }
    }

    /// Cuts every connection of a proxy.
    pub(crate) fn cut_proxy(&self, proxy: ProxyId) {
        self.lock()
            .values()
            .filter(|open| open.proxy == proxy)
            .for_each(|open| {
                open.cut.send_replace(true);
            });
    }

    /// Connections of a proxy that are open.
    pub(crate) fn count(&self, proxy: ProxyId) -> usize {
        let open = self.lock();
        open.values().filter(|open| open.proxy == proxy).count()
    }

    /// Connections that are open.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<OpenConnection> {
        let open = self.lock();
        let mut ids: Vec<_> = open.keys().copied().collect();
        ids.sort_unstable();
        let entry = |id| {
            open.get(id).map(|open| {
                let bytes = open.progress.bytes();
                OpenConnection {
                    connection: Arc::clone(&open.connection),
                    bytes_sent: bytes.sent,
                    bytes_received: bytes.received,
                }
            })
        };
        ids.iter().filter_map(entry).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Shows the progress of another entry, which carries the same bytes.
    pub(crate) fn show(&mut self, progress: &Arc<Progress>) {
        self.progress = Arc::clone(progress);
        if let Some(open) = self.table.lock().get_mut(&self.id) {
            open.progress = Arc::clone(progress);
        }
    }

    /// Resolves when the connection has to go, whoever holds the entry.
    pub(crate) fn signal(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut cut = self.cut.clone();
        async move {
            if cut.wait_for(|cut| *cut).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when the connection has to go.
    pub(crate) async fn cut(&mut self) {
        // The sender lives as long as this entry does.
        if self.cut.wait_for(|cut| *cut).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}
