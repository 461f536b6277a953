//! What the tests of records have in common: pods, connections, and readers of metrics and
//! access log.

use std::cell::RefCell;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use weft_model::mesh::{Candidate, Transport};
use weft_model::service::{Service, ServiceKind};
use weft_model::workload::{Enrolment, Workload, WorkloadLabels, WorkloadUid};
use weft_model::{NamespacedName, OriginalDestination};

use super::connection_record::ConnectionRecord;
use super::info::{ConnectionInfo, Hop, Peer, Security};
use super::node_telemetry::{PodTelemetry, Telemetry};

/// A pod of the Deployment `workload` in the namespace `shop`.
pub(super) fn pod(name: &str, workload: &str) -> Arc<Workload> {
    let uid = WorkloadUid::from(format!("uid-of-{name}").as_str());
    let identity = format!("spiffe://cluster.local/ns/shop/sa/{workload}");
    Arc::new(Workload {
        name: name.into(),
        addresses: vec![[10, 244, 1, 2].into()],
        enrolment: Enrolment::Captured,
        labels: WorkloadLabels {
            workload: workload.into(),
            app: workload.into(),
            version: "v1".into(),
        },
        ..Workload::new(uid, identity.parse().unwrap(), "node-1")
    })
}

/// A client and a server of other nodes, and what the client's connections are recorded by.
pub(super) struct Bed {
    pub(super) telemetry: Telemetry,
    pub(super) client: Arc<Workload>,
    pub(super) server: Arc<Workload>,
    pub(super) pod: PodTelemetry,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self::with(Telemetry::default())
    }

    pub(super) fn with(telemetry: Telemetry) -> Self {
        let (client, server) = (pod("client-1", "client"), pod("server-1", "server"));
        Self {
            pod: telemetry.for_pod(&client),
            telemetry,
            client,
            server,
        }
    }

    /// A connection to the server that is being made.
    pub(super) fn start(&self) -> ConnectionRecord {
        let info = outbound(&self.client, &self.server);
        ConnectionRecord::start(&self.pod, info, Instant::now())
    }

    /// A connection to the server that is open.
    pub(super) fn open(&self) -> ConnectionRecord {
        let mut record = self.start();
        record.opened(Duration::from_micros(7), None);
        record
    }

    /// The sum of a counter's series that have all of these labels; `None` when there is
    /// none.
    pub(super) fn counted(&self, name: &str, labels: &[&str]) -> Option<u64> {
        counted(&self.telemetry, name, labels)
    }

    /// The sum of a counter's series.
    pub(super) fn total(&self, name: &str) -> u64 {
        self.counted(name, &[]).unwrap_or_default()
    }
}

fn address(last: u8, port: u16) -> SocketAddr {
    ([10, 244, 1, last], port).into()
}

/// A connection of `from` to the service `web`, which `to` serves through a tunnel.
pub(super) fn outbound(from: &Arc<Workload>, to: &Arc<Workload>) -> Arc<ConnectionInfo> {
    let service = Service::new(
        NamespacedName::new("shop", "web"),
        "web.shop.svc.cluster.local".into(),
        ServiceKind::ClusterIp(Vec::new()),
    );
    let candidate = Candidate {
        address: address(3, 8080),
        transport: Transport::Tunnel {
            gateway: address(3, 15008),
            workload: Arc::clone(to),
        },
    };
    Arc::new(ConnectionInfo::outbound(
        from,
        address(2, 40_000),
        Some(OriginalDestination::new(([10, 96, 0, 7], 80).into())),
        Some(&candidate),
        Some(&service),
    ))
}

/// A connection of `from` to `to`, seen by the proxy of `to`.
pub(super) fn inbound(to: &Arc<Workload>, from: &Arc<Workload>) -> Arc<ConnectionInfo> {
    let source = Peer::from_address(Some(from), address(2, 40_000));
    let source = source.with_identity(from.identity.clone());
    let (to_address, security) = (address(3, 8080), Security::MutualTls);
    let info = ConnectionInfo::inbound(to, source, to_address, security, Hop::CrossNode);
    Arc::new(info)
}

/// The sum of a counter's series that have all of these labels; `None` when there is none.
pub(super) fn counted(telemetry: &Telemetry, name: &str, labels: &[&str]) -> Option<u64> {
    let text = telemetry.encode().unwrap();
    let mut values = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    let first = values.next()?;
    Some(first + values.sum::<u64>())
}

/// A line of the access log: its message and its fields as text.
pub(super) type AccessLine = Vec<(&'static str, String)>;

thread_local! {
    /// Lines that this thread has written.
    static LINES: RefCell<Vec<AccessLine>> = const { RefCell::new(Vec::new()) };
}

/// The access log's lines that `act` writes.
pub(super) fn access_lines(act: impl FnOnce()) -> Vec<AccessLine> {
    // One for all threads: what one thread's alone would want depends on which of them
    // came first to a line.
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(AccessLog).unwrap());
    LINES.take();
    act();
    LINES.take()
}

/// One field of a line.
pub(super) fn field<'a>(line: &'a AccessLine, name: &str) -> &'a str {
    let field = line.iter().find(|(known, _)| *known == name);
    field.map_or("absent", |(_, value)| value)
}

struct AccessLog;

impl Subscriber for AccessLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "access"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        LINES.with_borrow_mut(|lines| lines.push(fields.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Fields(AccessLine);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}
