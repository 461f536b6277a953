//! Connections that are open now: to look at, to cut when policy changes, and to count
//! while they carry bytes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use serde::Serialize;
use weft_model::Mesh;
use weft_model::workload::Workload;

use super::cut::CutSignal;
use super::info::ConnectionInfo;
use super::metrics::connections::ConnectionSeries;
use super::outcome::CutReason;
use super::progress::{ByteCount, Progress};

/// Decides whether a connection may go on, whenever the mesh has changed; it is given the
/// mesh and the local pod as they are then.
pub(crate) type StillAllowed = Box<dyn Fn(&Mesh, &Arc<Workload>) -> bool + Send + Sync>;

/// How many connections are checked without anything else being done.
const CHECKED_AT_ONCE: usize = 64;

/// The open connections of one run of a pod's proxy.
#[derive(Default)]
pub(crate) struct PodConnections(Mutex<Table>);

#[derive(Default)]
struct Table {
    next_id: u64,
    open: HashMap<u64, Row>,
    /// The mesh and the pod that connections are checked against.
    checked: Option<(Arc<Mesh>, Arc<Workload>)>,
    /// Everything was cut, and so is what still comes.
    all_cut: Option<CutReason>,
}

struct Row {
    info: Arc<ConnectionInfo>,
    opened_at: Instant,
    progress: Arc<Progress>,
    /// `None` where requests are counted instead.
    series: Option<Arc<ConnectionSeries>>,
    /// Bytes that the series have already.
    counted: ByteCount,
    still_allowed: Option<StillAllowed>,
    cut: Arc<CutSignal>,
}

impl Row {
    /// Counts the bytes that were carried since the last time; gives all of them.
    fn count_bytes(&mut self) -> ByteCount {
        let now = self.progress.bytes();
        if let Some(series) = &self.series
            && now != self.counted
        {
            series.carried(now - self.counted);
            self.counted = now;
        }
        now
    }

    fn check(&self, mesh: &Mesh, workload: &Arc<Workload>) {
        let still_allowed = self.still_allowed.as_ref();
        if still_allowed.is_some_and(|still_allowed| !still_allowed(mesh, workload)) {
            self.cut.give(CutReason::PolicyChanged);
        }
    }
}

/// A connection as it enters the table.
pub(super) struct NewConnection {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) progress: Arc<Progress>,
    /// Without it the connection stays whatever changes.
    pub(super) still_allowed: Option<StillAllowed>,
}

/// A connection's place in the table; it leaves when this is dropped.
pub(super) struct TableEntry {
    table: Arc<PodConnections>,
    id: u64,
    cut: Arc<CutSignal>,
    has_left: bool,
}

/// An open connection, as `/connections` shows it.
#[derive(Debug, Serialize)]
pub struct OpenConnection {
    #[serde(flatten)]
    info: Arc<ConnectionInfo>,
    bytes_sent: u64,
    bytes_received: u64,
    #[serde(skip)]
    opened_at: Instant,
}

impl fmt::Debug for PodConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodConnections")
            .field("open", &self.len())
            .finish()
    }
}

impl PodConnections {
    /// Enters a connection. One that is not allowed any more, since it was decided, is cut
    /// at once.
    pub(super) fn enter(self: &Arc<Self>, new: NewConnection) -> TableEntry {
        let cut = Arc::<CutSignal>::default();
        let row = Row {
            info: new.info,
            opened_at: Instant::now(),
            progress: new.progress,
            series: None,
            counted: ByteCount::default(),
            still_allowed: new.still_allowed,
            cut: Arc::clone(&cut),
        };
        let mut table = self.lock();
        if let Some((mesh, workload)) = &table.checked {
            row.check(mesh, workload);
        }
        if let Some(reason) = table.all_cut {
            cut.give(reason);
        }
        let id = table.next_id;
        table.next_id += 1;
        table.open.insert(id, row);
        drop(table);
        TableEntry {
            table: Arc::clone(self),
            id,
            cut,
            has_left: false,
        }
    }

    /// Cuts the connections that are not allowed any more, now that mesh and pod are like
    /// this. Nothing is to be done where neither workloads nor NetworkPolicies have changed. There may be many, and other pods have the same workers: it yields between some
    /// and the next.
    pub(crate) async fn recheck(&self, mesh: &Arc<Mesh>, workload: &Arc<Workload>) {
        let open: Vec<u64> = {
            let mut table = self.lock();
            // From here on those that come are checked as they enter.
            let before = table
                .checked
                .replace((Arc::clone(mesh), Arc::clone(workload)));
            if before.is_some_and(|(before, _)| before.admits_the_same_as(mesh)) {
                return;
            }
            table.open.keys().copied().collect()
        };
        for some in open.chunks(CHECKED_AT_ONCE) {
            {
                let table = self.lock();
                let rows = some.iter().filter_map(|id| table.open.get(id));
                rows.for_each(|row| row.check(mesh, workload));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Cuts all connections, and those that are opened from now on.
    pub(crate) fn cut_all(&self, reason: CutReason) {
        let mut table = self.lock();
        table.open.values().for_each(|row| row.cut.give(reason));
        table.all_cut = Some(reason);
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that are open, in no order.
    fn list(&self) -> Vec<OpenConnection> {
        let table = self.lock();
        let shown = table.open.values().map(|row| {
            let bytes = row.progress.bytes();
            OpenConnection {
                info: Arc::clone(&row.info),
                bytes_sent: bytes.sent,
                bytes_received: bytes.received,
                opened_at: row.opened_at,
            }
        });
        shown.collect()
    }

    /// Counts the bytes that were carried since the last time.
    fn flush(&self) {
        for row in self.lock().open.values_mut() {
            row.count_bytes();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableEntry {
    /// The signal that the connection has to go.
    pub(super) fn cut(&self) -> &Arc<CutSignal> {
        &self.cut
    }

    /// Shows and counts the bytes of another connection from now on, which carries the
    /// same.
    pub(super) fn share_progress(&self, progress: Arc<Progress>) {
        if let Some(row) = self.table.lock().open.get_mut(&self.id) {
            row.count_bytes();
            row.progress = progress;
            row.counted = ByteCount::default();
        }
    }

    /// Counts the bytes in these series from now on, those that were carried included.
    pub(super) fn count_in(&self, series: Arc<ConnectionSeries>) {
        if let Some(row) = self.table.lock().open.get_mut(&self.id) {
            row.series = Some(series);
        }
    }

    /// The connection has ended: counts the rest of its bytes. Gives all of them.
    pub(super) fn leave(mut self) -> ByteCount {
        self.remove()
    }

    fn remove(&mut self) -> ByteCount {
        if std::mem::replace(&mut self.has_left, true) {
            return ByteCount::default();
        }
        let mut table = self.table.lock();
        let row = table.open.remove(&self.id);
        // A pod that was busy once doesn't keep the memory of that hour.
        if table.open.capacity() > 64 && table.open.len() < table.open.capacity() / 8 {
            let room = table.open.len() * 2;
            table.open.shrink_to(room);
        }
        // Still locked: whoever flushes at the same time would count the same bytes.
        row.map(|mut row| row.count_bytes()).unwrap_or_default()
    }
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The open connections of all pods of the node.
#[derive(Debug, Default)]
pub struct ConnectionTables(Mutex<Vec<Weak<PodConnections>>>);

impl ConnectionTables {
    /// A table for one run of a pod's proxy, for as long as that is.
    pub(super) fn add(&self) -> Arc<PodConnections> {
        let table = Arc::<PodConnections>::default();
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|table| table.strong_count() > 0);
        tables.push(Arc::downgrade(&table));
        table
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.tables().iter().map(|table| table.len()).sum()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.tables().iter().all(|table| table.is_empty())
    }

    /// All that are open, oldest first.
    pub fn list(&self) -> Vec<OpenConnection> {
        let tables = self.tables();
        let mut open: Vec<_> = tables.iter().flat_map(|table| table.list()).collect();
        open.sort_by_key(|connection| connection.opened_at);
        open
    }

    /// Counts the bytes that were carried since the last time.
    pub(super) fn flush(&self) {
        self.tables().iter().for_each(|table| table.flush());
    }

    fn tables(&self) -> Vec<Arc<PodConnections>> {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.iter().filter_map(Weak::upgrade).collect()
    }
}
