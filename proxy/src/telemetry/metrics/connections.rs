//! Metrics of connections: Istio's for those that are carried as they are, one of ours
//! for those whose requests are counted instead.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::budget::{Account, SeriesBudget};
use super::key::ConnectionKey;
use super::labels::{ConnectionLabels, FailureLabels, HttpConnectionLabels};
use super::shared_series::{SeriesCache, SeriesKey, SharedSeries};
use super::values::FlagLabel;
use crate::telemetry::flag::ResponseFlag;
use crate::telemetry::info::ConnectionInfo;
use crate::telemetry::progress::ByteCount;
use crate::telemetry::tcp::TcpReport;

/// Upper bounds of the buckets of round-trip times, in seconds: a host's own, a data center's, a
/// continent's, and worse.
const ROUND_TRIP_SECONDS: [f64; 8] = [0.0001, 0.000_25, 0.001, 0.0025, 0.01, 0.05, 0.2, 1.0];

/// Counters of the connections of one pod to one peer.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSeries {
    opened: Counter,
    closed: Counter,
    sent: Counter,
    received: Counter,
    round_trip_time: Histogram,
    retransmits: Counter,
    delivered: Counter,
}

impl Default for ConnectionSeries {
    fn default() -> Self {
        Self {
            opened: Counter::default(),
            closed: Counter::default(),
            sent: Counter::default(),
            received: Counter::default(),
            round_trip_time: Histogram::new(ROUND_TRIP_SECONDS),
            retransmits: Counter::default(),
            delivered: Counter::default(),
        }
    }
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

    /// Its socket on the peer's side was given up.
    pub(crate) fn reported(&self, report: &TcpReport) {
        if let Some(rtt) = report.statistics.smoothed_rtt {
            self.round_trip_time.observe(rtt.as_secs_f64());
        }
        self.retransmits.inc_by(report.new_retransmits);
        self.delivered.inc_by(report.new_delivered_bytes);
    }

    /// Bytes were carried that are not counted yet.
    pub(crate) fn carried(&self, bytes: ByteCount) {
        self.sent.inc_by(bytes.sent);
        self.received.inc_by(bytes.received);
    }
}

/// All metrics of connections.
#[derive(Debug, Default)]
pub(super) struct ConnectionMetrics {
    carried: SharedSeries<ConnectionLabels, ConnectionSeries>,
    broken: SharedSeries<ConnectionLabels, Counter>,
    failed: SharedSeries<FailureLabels, Counter>,
    http_opened: SharedSeries<HttpConnectionLabels, Counter>,
    http_closed: SharedSeries<HttpConnectionLabels, Counter>,
}

/// Connections that were closed: in order, or under the labels of how they broke.
#[derive(Debug)]
struct ClosedView {
    carried: SharedSeries<ConnectionLabels, ConnectionSeries>,
    broken: SharedSeries<ConnectionLabels, Counter>,
}

impl EncodeMetric for ClosedView {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.carried.encode(|of| &of.closed, &mut encoder)?;
        self.broken.encode(|closed| closed, &mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }

    fn is_empty(&self) -> bool {
        self.carried.is_empty() && self.broken.is_empty()
    }
}

impl ConnectionMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let tcp = &self.carried;
        let closed = ClosedView {
            carried: tcp.clone(),
            broken: self.broken.clone(),
        };
        registry.register(
            "istio_tcp_connections_opened",
            "Connections opened",
            tcp.view(|of| &of.opened),
        );
        registry.register("istio_tcp_connections_closed", "Connections closed", closed);
        registry.register(
            "istio_tcp_sent_bytes",
            "Bytes sent to the destination",
            tcp.view(|of| &of.sent),
        );
        registry.register(
            "istio_tcp_received_bytes",
            "Bytes received from the destination",
            tcp.view(|of| &of.received),
        );
        registry.register(
            "weft_tcp_round_trip_time_seconds",
            "Smoothed round-trip time to the peer when a connection ended",
            tcp.view(|of| &of.round_trip_time),
        );
        registry.register(
            "weft_tcp_retransmitted_segments",
            "Segments that were sent to the peer more than once",
            tcp.view(|of| &of.retransmits),
        );
        registry.register(
            "weft_tcp_delivered_bytes",
            "Bytes that the peer's kernel has acknowledged",
            tcp.view(|of| &of.delivered),
        );
        registry.register(
            "istio_tcp_connections_failed",
            "Connections that failed before their first byte",
            self.failed.view(|failed| failed),
        );
        registry.register(
            "weft_http_connections_opened",
            "Connections opened whose requests are counted one by one",
            self.http_opened.view(|opened| opened),
        );
        registry.register(
            "weft_http_connections_closed",
            "Connections closed whose requests are counted one by one",
            self.http_closed.view(|closed| closed),
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

    fn account(&self) -> Option<Account> {
        Some(ConnectionKey::account(self))
    }

    fn overflow_labels(&self) -> ConnectionLabels {
        ConnectionLabels::overflow(&self.0, FlagLabel::Flag(ResponseFlag::None))
    }
}

impl SeriesKey for EndedKey {
    type Labels = ConnectionLabels;

    fn labels(&self) -> ConnectionLabels {
        ConnectionLabels::new(&self.connection.0, self.flag)
    }

    fn account(&self) -> Option<Account> {
        Some(self.connection.account())
    }

    fn overflow_labels(&self) -> ConnectionLabels {
        ConnectionLabels::overflow(&self.connection.0, FlagLabel::Overflow)
    }
}

impl SeriesKey for FailedKey {
    type Labels = FailureLabels;

    fn labels(&self) -> FailureLabels {
        FailureLabels::new(&self.0.connection.0, self.0.flag)
    }

    fn account(&self) -> Option<Account> {
        self.0.account()
    }

    fn overflow_labels(&self) -> FailureLabels {
        FailureLabels::overflow(&self.0.connection.0)
    }
}

impl SeriesKey for HttpConnectionLabels {
    type Labels = Self;

    fn labels(&self) -> Self {
        self.clone()
    }

    /// Direction and flag alone tell them apart.
    fn account(&self) -> Option<Account> {
        None
    }

    fn overflow_labels(&self) -> Self {
        self.clone()
    }
}

/// Series of connections that one pod uses.
#[derive(Debug, Default)]
pub(super) struct PodConnectionSeries {
    carried: SeriesCache<ConnectionKey, ConnectionSeries>,
    broken: SeriesCache<EndedKey, Counter>,
    failed: SeriesCache<FailedKey, Counter>,
    http_opened: SeriesCache<HttpConnectionLabels, Counter>,
    http_closed: SeriesCache<HttpConnectionLabels, Counter>,
}

impl PodConnectionSeries {
    /// The counters of a connection that is carried as it is.
    pub(super) fn of_connection(
        &mut self,
        all: &ConnectionMetrics,
        budget: &mut SeriesBudget,
        info: &Arc<ConnectionInfo>,
    ) -> Arc<ConnectionSeries> {
        let key = ConnectionKey(Arc::clone(info));
        self.carried.get_or_acquire(key, budget, &all.carried)
    }

    /// Counts a connection that ended otherwise than in order.
    pub(super) fn count_broken(
        &mut self,
        all: &ConnectionMetrics,
        budget: &mut SeriesBudget,
        info: &Arc<ConnectionInfo>,
        flag: ResponseFlag,
    ) {
        let key = EndedKey::new(info, flag);
        self.broken.get_or_acquire(key, budget, &all.broken).inc();
    }

    /// Counts a connection that failed before its first byte.
    pub(super) fn count_failed(
        &mut self,
        all: &ConnectionMetrics,
        budget: &mut SeriesBudget,
        info: &Arc<ConnectionInfo>,
        flag: ResponseFlag,
    ) {
        let key = FailedKey(EndedKey::new(info, flag));
        self.failed.get_or_acquire(key, budget, &all.failed).inc();
    }

    /// Counts a connection for requests that was opened.
    pub(super) fn count_http_opened(
        &mut self,
        all: &ConnectionMetrics,
        budget: &mut SeriesBudget,
        labels: HttpConnectionLabels,
    ) {
        let opened = &mut self.http_opened;
        opened
            .get_or_acquire(labels, budget, &all.http_opened)
            .inc();
    }

    /// Counts a connection for requests that ended.
    pub(super) fn count_http_closed(
        &mut self,
        all: &ConnectionMetrics,
        budget: &mut SeriesBudget,
        labels: HttpConnectionLabels,
    ) {
        let closed = &mut self.http_closed;
        closed
            .get_or_acquire(labels, budget, &all.http_closed)
            .inc();
    }

    /// Drops what was not used since the last sweep.
    pub(super) fn sweep(&mut self, all: &ConnectionMetrics, budget: &mut SeriesBudget) {
        self.carried.sweep(budget, &all.carried);
        self.broken.sweep(budget, &all.broken);
        self.failed.sweep(budget, &all.failed);
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
