//! What the tests of records have in common: pods, connections, and readers of metrics and
//! access log.

use std::cell::RefCell;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use weft_model::mesh::{Candidate, Transport};
use weft_model::service::{Service, ServiceKind};
use weft_model::workload::{
    CaptureExclusions, Enrolment, Locality, Workload, WorkloadLabels, WorkloadUid,
};
use weft_model::{NamespacedName, OriginalDestination};

use super::info::{ConnectionInfo, Hop, Peer, Security};
use super::node_telemetry::Telemetry;

/// A pod of the Deployment `workload` in the namespace `shop`.
pub(super) fn pod(name: &str, workload: &str) -> Arc<Workload> {
    Arc::new(Workload {
        uid: WorkloadUid::from(format!("uid-of-{name}").as_str()),
        name: name.into(),
        identity: format!("spiffe://cluster.local/ns/shop/sa/{workload}")
            .parse()
            .unwrap(),
        addresses: vec![[10, 244, 1, 2].into()],
        node: "node-1".into(),
        locality: Locality::default(),
        enrolment: Enrolment::Captured,
        mtls_mode: Default::default(),
        egress_mode: Default::default(),
        exclusions: CaptureExclusions::default(),
        network_namespace: "".into(),
        labels: WorkloadLabels {
            workload: workload.into(),
            app: workload.into(),
            version: "v1".into(),
        },
    })
}

fn address(last: u8, port: u16) -> SocketAddr {
    ([10, 244, 1, last], port).into()
}

/// A connection of `from` to the service `web`, which `to` serves through a tunnel.
pub(super) fn outbound(from: &Arc<Workload>, to: &Arc<Workload>) -> Arc<ConnectionInfo> {
    let service = Service {
        key: NamespacedName::new("shop", "web"),
        hostname: "web.shop.svc.cluster.local".into(),
        kind: ServiceKind::ClusterIp(Vec::new()),
        ports: Vec::new(),
    };
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
