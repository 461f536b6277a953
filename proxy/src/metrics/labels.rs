//! The labels of connection metrics: Istio's standard set.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use weft_model::workload::Workload;

use crate::record::{Connection, Direction, Party, RequestRecord, Security};
use crate::telemetry::flag::ResponseFlag;

/// Istio's value for what isn't known.
const UNKNOWN: &str = "unknown";

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
    response_flags: &'static str,
    connection_security_policy: &'static str,
}

/// Labels of `istio_requests_total` and its siblings.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct RequestLabels {
    #[prometheus(flatten)]
    connection: ConnectionLabels,
    response_code: u16,
    grpc_response_status: Option<u16>,
}

impl RequestLabels {
    pub(crate) fn new(connection: &Connection, request: &RequestRecord<'_>) -> Self {
        let mut labels = ConnectionLabels::new(connection, request.flag);
        labels.request_protocol = if request.grpc { "grpc" } else { "http" };
        Self {
            connection: labels,
            // Istio's value for a client that went away before an answer.
            response_code: request.status.map_or(0, |status| status.as_u16()),
            grpc_response_status: request.grpc_status,
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
    response_flags: &'static str,
}

/// Labels of what belongs to one pod.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct PodLabels {
    namespace: String,
    pod: Arc<str>,
}

impl PodLabels {
    pub(crate) fn new(workload: &Workload) -> Self {
        Self {
            namespace: workload.namespace().to_owned(),
            pod: Arc::clone(&workload.name),
        }
    }
}

/// What one end of a connection contributes.
struct End {
    workload: Arc<str>,
    namespace: String,
    principal: String,
    app: Arc<str>,
    version: Arc<str>,
    revision: Arc<str>,
}

impl End {
    fn new(party: &Party) -> Self {
        let principal = party.identity.as_ref();
        let principal = principal.map_or_else(|| UNKNOWN.to_owned(), ToString::to_string);
        let unknown = || Arc::<str>::from(UNKNOWN);
        let Some(workload) = &party.workload else {
            let (namespace, revision) = (UNKNOWN.to_owned(), "latest".into());
            let (app, version) = (unknown(), unknown());
            return Self {
                workload: unknown(),
                namespace,
                principal,
                app,
                version,
                revision,
            };
        };
        let or = |text: &Arc<str>, other: Arc<str>| {
            if text.is_empty() {
                other
            } else {
                Arc::clone(text)
            }
        };
        let labels = &workload.labels;
        Self {
            workload: or(&labels.workload, Arc::clone(&workload.name)),
            namespace: workload.namespace().to_owned(),
            principal,
            app: or(&labels.app, unknown()),
            version: or(&labels.version, unknown()),
            revision: or(&labels.version, "latest".into()),
        }
    }

    fn cluster(party: &Party) -> &'static str {
        if party.workload.is_some() {
            "Kubernetes"
        } else {
            UNKNOWN
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
    pub(crate) fn new(connection: &Connection, flag: ResponseFlag) -> Self {
        let source = End::new(&connection.source);
        let destination = End::new(&connection.destination);
        let service = connection.service.as_ref();
        let unknown = || Arc::<str>::from(UNKNOWN);
        Self {
            reporter: reporter(connection),
            source_canonical_service: source.canonical_service(),
            source_canonical_revision: source.revision,
            source_workload: source.workload,
            source_workload_namespace: source.namespace,
            source_principal: source.principal,
            source_app: source.app,
            source_version: source.version,
            source_cluster: End::cluster(&connection.source),
            destination_canonical_service: destination.canonical_service(),
            destination_canonical_revision: destination.revision,
            destination_workload: destination.workload,
            destination_workload_namespace: destination.namespace,
            destination_principal: destination.principal,
            destination_app: destination.app,
            destination_version: destination.version,
            destination_cluster: End::cluster(&connection.destination),
            destination_service: connection.service_hostname.clone().unwrap_or_else(unknown),
            destination_service_name: service.map_or_else(unknown, |key| Arc::clone(&key.name)),
            destination_service_namespace: service
                .map_or_else(unknown, |key| Arc::clone(&key.namespace)),
            request_protocol: "tcp",
            response_flags: flag.as_str(),
            connection_security_policy: match connection.security {
                // Both identities were checked, which is what this label is read for.
                Security::MutualTls | Security::SameNode => "mutual_tls",
                // Only the server's name is known.
                Security::Tls | Security::Plaintext => UNKNOWN,
            },
        }
    }
}

impl FailureLabels {
    pub(crate) fn new(connection: &Connection, flag: ResponseFlag) -> Self {
        let source = End::new(&connection.source);
        let destination = End::new(&connection.destination);
        let unknown = || Arc::<str>::from(UNKNOWN);
        Self {
            reporter: reporter(connection),
            source_workload: source.workload,
            source_workload_namespace: source.namespace,
            destination_workload: destination.workload,
            destination_workload_namespace: destination.namespace,
            destination_service: connection.service_hostname.clone().unwrap_or_else(unknown),
            response_flags: flag.as_str(),
        }
    }
}

fn reporter(connection: &Connection) -> &'static str {
    match connection.direction {
        Direction::Outbound => "source",
        Direction::Inbound => "destination",
    }
}
