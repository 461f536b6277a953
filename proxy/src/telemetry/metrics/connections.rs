//! Metrics of connections: Istio's for those that are carried as they are, one of ours
//! for those whose requests are counted instead.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::key::ConnectionKey;
use super::labels::{ConnectionLabels, FailureLabels, HttpConnectionLabels};
use super::shared_series::{AllLabels, SeriesCache, SeriesGroup, SeriesKey, SharedSeries};
use crate::telemetry::flag::ResponseFlag;
use crate::telemetry::info::ConnectionInfo;
use crate::telemetry::progress::ByteCount;

/// Counters of the connections of one pod to one peer.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSeries {
    opened: Counter,
    closed: Counter,
    sent: Counter,
    received: Counter,
}

impl ConnectionSeries {
    /// One was opened.
    pub(crate) fn opened(&self) {
        self.opened.inc();
    }

    /// One ended in order.
    pub(crate) fn closed(&self) {
        self.closed.inc();
    }

    /// Bytes were carried that are not counted yet.
    pub(crate) fn carried(&self, bytes: ByteCount) {
        self.sent.inc_by(bytes.sent);
        self.received.inc_by(bytes.received);
    }
}

/// Families of connections that carried bytes; those that broke are closed under labels of
/// their own.
#[derive(Debug, Default)]
pub(super) struct ConnectionFamilies {
    opened: Family<ConnectionLabels, Counter>,
    closed: Family<ConnectionLabels, Counter>,
    sent: Family<ConnectionLabels, Counter>,
    received: Family<ConnectionLabels, Counter>,
}

impl SeriesGroup for ConnectionFamilies {
    type Labels = ConnectionLabels;
    type Series = Arc<ConnectionSeries>;

    fn get_or_create(&self, labels: &ConnectionLabels) -> Arc<ConnectionSeries> {
        Arc::new(ConnectionSeries {
            opened: self.opened.get_or_create_owned(labels),
            closed: self.closed.get_or_create_owned(labels),
            sent: self.sent.get_or_create_owned(labels),
            received: self.received.get_or_create_owned(labels),
        })
    }

    fn remove(&self, labels: &ConnectionLabels) {
        for family in [&self.opened, &self.closed, &self.sent, &self.received] {
            family.remove(labels);
        }
    }

    fn is_in_use(series: &Arc<ConnectionSeries>) -> bool {
        Arc::strong_count(series) > 1
    }
}

/// All metrics of connections.
#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    carried: SharedSeries<ConnectionFamilies>,
    broken: SharedSeries<Family<ConnectionLabels, Counter>>,
    failed: SharedSeries<Family<FailureLabels, Counter>>,
    http_opened: SharedSeries<Family<HttpConnectionLabels, Counter>>,
    http_closed: SharedSeries<Family<HttpConnectionLabels, Counter>>,
}

impl Default for ConnectionMetrics {
    fn default() -> Self {
        let carried = ConnectionFamilies::default();
        Self {
            broken: SharedSeries::new(carried.closed.clone()),
            carried: SharedSeries::new(carried),
            failed: SharedSeries::default(),
            http_opened: SharedSeries::default(),
            http_closed: SharedSeries::default(),
        }
    }
}

impl ConnectionMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let tcp = self.carried.families();
        let families = [
            ("connections_opened", "Connections opened", &tcp.opened),
            ("connections_closed", "Connections closed", &tcp.closed),
            ("sent_bytes", "Bytes sent to the destination", &tcp.sent),
            (
                "received_bytes",
                "Bytes received from the destination",
                &tcp.received,
            ),
        ];
        for (name, help, family) in families {
            registry.register(format!("istio_tcp_{name}"), help, family.clone());
        }
        registry.register(
            "istio_tcp_connections_failed",
            "Connections that failed before their first byte",
            self.failed.families().clone(),
        );
        registry.register(
            "weft_http_connections_opened",
            "Connections opened whose requests are counted one by one",
            self.http_opened.families().clone(),
        );
        registry.register(
            "weft_http_connections_closed",
            "Connections closed whose requests are counted one by one",
            self.http_closed.families().clone(),
        );
    }
}

/// A connection and how it ended, as far as that makes a difference for labels.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct EndedKey {
    connection: ConnectionKey,
    flag: ResponseFlag,
}

/// The same for a connection that failed before its first byte.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct FailedKey(EndedKey);

impl SeriesKey for ConnectionKey {
    type Labels = ConnectionLabels;

    fn labels(&self) -> ConnectionLabels {
        ConnectionLabels::new(&self.0, ResponseFlag::None)
    }
}

impl SeriesKey for EndedKey {
    type Labels = ConnectionLabels;

    fn labels(&self) -> ConnectionLabels {
        ConnectionLabels::new(&self.connection.0, self.flag)
    }
}

impl SeriesKey for FailedKey {
    type Labels = FailureLabels;

    fn labels(&self) -> FailureLabels {
        FailureLabels::new(&self.0.connection.0, self.0.flag)
    }
}

/// Series of connections that one pod uses.
#[derive(Debug, Default)]
pub(super) struct PodConnectionSeries {
    carried: SeriesCache<ConnectionKey, Arc<ConnectionSeries>>,
    broken: SeriesCache<EndedKey, Counter>,
    failed: SeriesCache<FailedKey, Counter>,
    http_opened: SeriesCache<AllLabels<HttpConnectionLabels>, Counter>,
    http_closed: SeriesCache<AllLabels<HttpConnectionLabels>, Counter>,
}

impl PodConnectionSeries {
    /// The counters of a connection that is carried as it is.
    pub(super) fn of_connection(
        &mut self,
        all: &ConnectionMetrics,
        info: &Arc<ConnectionInfo>,
    ) -> Arc<ConnectionSeries> {
        let key = ConnectionKey(Arc::clone(info));
        self.carried.get_or_acquire(key, &all.carried)
    }

    /// Counts a connection that ended otherwise than in order.
    pub(super) fn count_broken(
        &mut self,
        all: &ConnectionMetrics,
        info: &Arc<ConnectionInfo>,
        flag: ResponseFlag,
    ) {
        let key = EndedKey::new(info, flag);
        self.broken.get_or_acquire(key, &all.broken).inc();
    }

    /// Counts a connection that failed before its first byte.
    pub(super) fn count_failed(
        &mut self,
        all: &ConnectionMetrics,
        info: &Arc<ConnectionInfo>,
        flag: ResponseFlag,
    ) {
        let key = FailedKey(EndedKey::new(info, flag));
        self.failed.get_or_acquire(key, &all.failed).inc();
    }

    /// Counts a connection for requests that was opened.
    pub(super) fn count_http_opened(
        &mut self,
        all: &ConnectionMetrics,
        labels: HttpConnectionLabels,
    ) {
        self.http_opened
            .get_or_acquire(AllLabels(labels), &all.http_opened)
            .inc();
    }

    /// Counts a connection for requests that ended.
    pub(super) fn count_http_closed(
        &mut self,
        all: &ConnectionMetrics,
        labels: HttpConnectionLabels,
    ) {
        self.http_closed
            .get_or_acquire(AllLabels(labels), &all.http_closed)
            .inc();
    }

    /// The pod is gone.
    pub(super) fn release(self, all: &ConnectionMetrics) {
        self.carried.release_all(&all.carried);
        self.broken.release_all(&all.broken);
        self.failed.release_all(&all.failed);
        self.http_opened.release_all(&all.http_opened);
        self.http_closed.release_all(&all.http_closed);
    }
}

impl EndedKey {
    fn new(info: &Arc<ConnectionInfo>, flag: ResponseFlag) -> Self {
        Self {
            connection: ConnectionKey(Arc::clone(info)),
            flag,
        }
    }
}
