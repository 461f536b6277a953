//! The labels of series: Istio's standard set, and ours.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use weft_model::NamespacedName;
use weft_model::workload::Workload;

use super::key::workload_name;
use super::values::{CodeLabel, FlagLabel, GrpcStatusLabel, OVERFLOW, UNKNOWN};
use crate::telemetry::flag::ResponseFlag;
use crate::telemetry::info::{ConnectionInfo, Direction, Peer};

/// Istio's canonical revision where none is declared.
const LATEST: &str = "latest";

/// Labels of `istio_tcp_connections_opened_total` and its siblings.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ConnectionLabels {
    reporter: &'static str,
    source_workload: Arc<str>,
    source_workload_namespace: String,
    source_principal: String,
    source_app: Arc<str>,
    source_version: Arc<str>,
    source_canonical_service: Arc<str>,
    source_canonical_revision: Arc<str>,
    source_cluster: &'static str,
    destination_workload: Arc<str>,
    destination_workload_namespace: String,
    destination_principal: String,
    destination_app: Arc<str>,
    destination_version: Arc<str>,
    destination_canonical_service: Arc<str>,
    destination_canonical_revision: Arc<str>,
    destination_cluster: &'static str,
    destination_service: Arc<str>,
    destination_service_name: Arc<str>,
    destination_service_namespace: Arc<str>,
    request_protocol: &'static str,
    response_flags: FlagLabel,
    connection_security_policy: &'static str,
}

/// Labels of `istio_requests_total` and its siblings.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct RequestLabels {
    #[prometheus(flatten)]
    connection: ConnectionLabels,
    response_code: CodeLabel,
    grpc_response_status: GrpcStatusLabel,
}

/// What a request adds to the labels of its connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct RequestResult {
    pub(super) response_code: CodeLabel,
    pub(super) is_grpc: bool,
    pub(super) grpc_status: GrpcStatusLabel,
    pub(super) flag: ResponseFlag,
}

impl RequestLabels {
    pub(super) fn new(info: &ConnectionInfo, result: RequestResult) -> Self {
        let mut connection = ConnectionLabels::new(info, result.flag);
        connection.request_protocol = if result.is_grpc { "grpc" } else { "http" };
        Self {
            connection,
            response_code: result.response_code,
            grpc_response_status: result.grpc_status,
        }
    }

    /// Of requests whose pod has as many series as it may: by direction, protocol and class
    /// of the status.
    pub(super) fn overflow(info: &ConnectionInfo, result: RequestResult) -> Self {
        let mut connection = ConnectionLabels::overflow(info, FlagLabel::Overflow);
        connection.request_protocol = if result.is_grpc { "grpc" } else { "http" };
        Self {
            connection,
            response_code: result.response_code.class(),
            grpc_response_status: GrpcStatusLabel::Overflow,
        }
    }
}

/// Labels of `istio_tcp_connections_failed_total`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct FailureLabels {
    reporter: &'static str,
    source_workload: Arc<str>,
    source_workload_namespace: String,
    destination_workload: Arc<str>,
    destination_workload_namespace: String,
    destination_service: Arc<str>,
    response_flags: FlagLabel,
}

/// Labels of what belongs to one pod.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct PodLabels {
    namespace: String,
    pod: Arc<str>,
}

impl PodLabels {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            namespace: workload.namespace().to_owned(),
            pod: Arc::clone(&workload.name),
        }
    }
}

/// Labels of `weft_http_connections_opened_total` and its sibling.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct HttpConnectionLabels {
    #[prometheus(flatten)]
    pod: PodLabels,
    direction: &'static str,
    response_flags: ResponseFlag,
}

impl HttpConnectionLabels {
    pub(super) fn new(pod: &PodLabels, direction: Direction, flag: ResponseFlag) -> Self {
        Self {
            pod: pod.clone(),
            direction: direction.as_str(),
            response_flags: flag,
        }
    }
}

/// Labels of what belongs to one Service.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ServiceLabels {
    destination_service_namespace: Arc<str>,
    destination_service_name: Arc<str>,
}

impl ServiceLabels {
    pub(super) fn new(service: &NamespacedName) -> Self {
        Self {
            destination_service_namespace: Arc::clone(&service.namespace),
            destination_service_name: Arc::clone(&service.name),
        }
    }

    /// Of Services of which there are too many, of that namespace where it is given.
    pub(super) fn overflow(namespace: Option<&Arc<str>>) -> Self {
        let namespace = namespace.map_or_else(|| OVERFLOW.into(), Arc::clone);
        Self {
            destination_service_namespace: namespace,
            destination_service_name: OVERFLOW.into(),
        }
    }
}

/// What one end of a connection contributes.
struct EndLabels {
    workload: Arc<str>,
    namespace: String,
    principal: String,
    app: Arc<str>,
    version: Arc<str>,
    canonical_revision: Arc<str>,
    cluster: &'static str,
}

impl EndLabels {
    fn new(peer: &Peer) -> Self {
        let principal = peer.identity.as_ref();
        let principal = principal.map_or_else(|| UNKNOWN.to_owned(), ToString::to_string);
        let unknown = || Arc::<str>::from(UNKNOWN);
        let Some(workload) = &peer.workload else {
            return Self {
                workload: unknown(),
                namespace: UNKNOWN.to_owned(),
                principal,
                app: unknown(),
                version: unknown(),
                canonical_revision: LATEST.into(),
                cluster: UNKNOWN,
            };
        };
        let or = |text: &Arc<str>, other: &str| match text.is_empty() {
            true => other.into(),
            false => Arc::clone(text),
        };
        let labels = &workload.labels;
        Self {
            workload: Arc::clone(workload_name(workload)),
            namespace: workload.namespace().to_owned(),
            principal,
            app: or(&labels.app, UNKNOWN),
            version: or(&labels.version, UNKNOWN),
            canonical_revision: or(&labels.version, LATEST),
            cluster: "Kubernetes",
        }
    }

    /// The other end of connections whose pod has as many series as it may.
    fn overflow() -> Self {
        let overflow = Arc::<str>::from(OVERFLOW);
        Self {
            workload: Arc::clone(&overflow),
            namespace: OVERFLOW.to_owned(),
            principal: OVERFLOW.to_owned(),
            app: Arc::clone(&overflow),
            version: Arc::clone(&overflow),
            canonical_revision: overflow,
            cluster: UNKNOWN,
        }
    }

    /// Source and destination, of which the other end is in the overflow.
    fn overflow_of(info: &ConnectionInfo) -> [Self; 2] {
        // By itself: what was proven about it differs with its peers.
        let local = Peer {
            identity: None,
            ..info.local().clone()
        };
        match info.direction {
            Direction::Outbound => [Self::new(&local), Self::overflow()],
            Direction::Inbound => [Self::overflow(), Self::new(&local)],
        }
    }

    /// Istio's canonical service: the app's name, else the workload's.
    fn canonical_service(&self) -> Arc<str> {
        let app = if &*self.app == UNKNOWN {
            &self.workload
        } else {
            &self.app
        };
        Arc::clone(app)
    }
}

impl ConnectionLabels {
    pub(super) fn new(info: &ConnectionInfo, flag: ResponseFlag) -> Self {
        let ends = [&info.source, &info.destination].map(EndLabels::new);
        let service = info.service.as_ref();
        let unknown = || Arc::<str>::from(UNKNOWN);
        Self {
            destination_service: info.service_hostname.clone().unwrap_or_else(unknown),
            destination_service_name: service.map_or_else(unknown, |key| Arc::clone(&key.name)),
            destination_service_namespace: service
                .map_or_else(unknown, |key| Arc::clone(&key.namespace)),
            // Both identities were checked, which is what this label is read for.
            connection_security_policy: match info.security.is_mutual() {
                true => "mutual_tls",
                false => UNKNOWN,
            },
            ..Self::of_ends(info, ends, FlagLabel::Flag(flag))
        }
    }

    /// Of connections whose pod has as many series as it may.
    pub(super) fn overflow(info: &ConnectionInfo, flag: FlagLabel) -> Self {
        Self::of_ends(info, EndLabels::overflow_of(info), flag)
    }

    /// Those of both ends, without what else is known.
    fn of_ends(info: &ConnectionInfo, ends: [EndLabels; 2], flag: FlagLabel) -> Self {
        let [source, destination] = ends;
        let overflow = || Arc::<str>::from(OVERFLOW);
        Self {
            reporter: reporter(info),
            source_canonical_service: source.canonical_service(),
            source_canonical_revision: source.canonical_revision,
            source_workload: source.workload,
            source_workload_namespace: source.namespace,
            source_principal: source.principal,
            source_app: source.app,
            source_version: source.version,
            source_cluster: source.cluster,
            destination_canonical_service: destination.canonical_service(),
            destination_canonical_revision: destination.canonical_revision,
            destination_workload: destination.workload,
            destination_workload_namespace: destination.namespace,
            destination_principal: destination.principal,
            destination_app: destination.app,
            destination_version: destination.version,
            destination_cluster: destination.cluster,
            destination_service: overflow(),
            destination_service_name: overflow(),
            destination_service_namespace: overflow(),
            request_protocol: "tcp",
            response_flags: flag,
            connection_security_policy: UNKNOWN,
        }
    }
}

impl FailureLabels {
    pub(super) fn new(info: &ConnectionInfo, flag: ResponseFlag) -> Self {
        let ends = [&info.source, &info.destination].map(EndLabels::new);
        let unknown = || Arc::<str>::from(UNKNOWN);
        let service = info.service_hostname.clone().unwrap_or_else(unknown);
        Self::of_ends(info, ends, service, FlagLabel::Flag(flag))
    }

    /// Of connections whose pod has as many series as it may.
    pub(super) fn overflow(info: &ConnectionInfo) -> Self {
        let ends = EndLabels::overflow_of(info);
        Self::of_ends(info, ends, OVERFLOW.into(), FlagLabel::Overflow)
    }

    fn of_ends(
        info: &ConnectionInfo,
        [source, destination]: [EndLabels; 2],
        destination_service: Arc<str>,
        response_flags: FlagLabel,
    ) -> Self {
        Self {
            reporter: reporter(info),
            source_workload: source.workload,
            source_workload_namespace: source.namespace,
            destination_workload: destination.workload,
            destination_workload_namespace: destination.namespace,
            destination_service,
            response_flags,
        }
    }
}

fn reporter(info: &ConnectionInfo) -> &'static str {
    match info.direction {
        Direction::Outbound => "source",
        Direction::Inbound => "destination",
    }
}
