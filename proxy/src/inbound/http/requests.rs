//! What all requests of one inbound connection share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weft_model::node_access::ProbePort;
use weft_model::workload::Workload;

use super::probe_requests::ProbeRequests;
use crate::inbound::arrival::Arrival;
use crate::inbound::authorization_policies::{DecidedRequest, PodPolicies, PolicySubject};
use crate::node::Node;
use crate::policy_verdict::AuthorizationVerdict;
use crate::telemetry::{ConnectionInfo, PodTelemetry, RequestDescription, RequestRecord};
use crate::upstream::{OwnedHead, ReceivedRequest, RequestHead, RequestReceiver};

/// Requests of one connection, as the receiving pod decides about them and records them.
#[derive(Debug)]
pub(in crate::inbound) struct InboundRequests {
    telemetry: PodTelemetry,
    info: Arc<ConnectionInfo>,
    authorization: RequestAuthorization,
    /// They have to be probes of kubelet's, which are not recorded.
    pub(super) probes: Option<ProbeRequests>,
}

/// Who decides about the requests of one connection. The whole pod isn't kept: its neighbours
/// keep this with their idle connections.
#[derive(Clone, Debug)]
struct RequestAuthorization {
    node: Arc<Node>,
    pod: Arc<Workload>,
    subject: PolicySubject,
}

impl RequestAuthorization {
    /// The decision by the newest policies; `None` where everything is allowed.
    fn decide(&self, head: &RequestHead<'_>) -> Option<DecidedRequest> {
        let mesh = self.node.store.snapshot();
        self.subject.decide(&mesh, &self.pod, head)
    }

    /// Resolves when the policies don't allow what they allowed before.
    async fn revoked(&self, head: &RequestHead<'_>) {
        let mut changes = self.node.store.subscribe();
        let last = AuthorizationVerdict::default();
        loop {
            let mesh = self.node.store.snapshot();
            if let PodPolicies::Known(policies) = PodPolicies::of(&mesh, &self.pod) {
                let is_revoked = last.ends(policies, |now| {
                    let verdict = self.subject.request_verdict(now, head);
                    verdict.ends_connections()
                });
                if is_revoked {
                    return;
                }
            }
            drop(mesh);
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl InboundRequests {
    /// The requests of a connection that arrives.
    pub(in crate::inbound) fn new(arrival: &Arrival) -> Self {
        let port = arrival.destination.port();
        // A port may serve several services; none counts then.
        let service = arrival.mesh.service_of_port(&arrival.workload.uid, port);
        let info = arrival
            .info()
            .with_service(service.map(|service| &**service));
        Self {
            telemetry: arrival.pod.telemetry.clone(),
            info: Arc::new(info),
            authorization: RequestAuthorization {
                node: Arc::clone(&arrival.pod.node),
                pod: Arc::clone(&arrival.workload),
                subject: arrival.policy_subject(),
            },
            probes: None,
        }
    }

    /// Those of a connection of kubelet's. `closing` is cancelled with the first that is no
    /// probe of that port.
    pub(in crate::inbound) fn of_probes(
        arrival: &Arrival,
        port: ProbePort,
        closing: CancellationToken,
    ) -> Self {
        Self {
            probes: Some(ProbeRequests::new(arrival, port, closing)),
            ..Self::new(arrival)
        }
    }
}

impl RequestReceiver for InboundRequests {
    fn receive(&self, description: RequestDescription, head: &RequestHead<'_>) -> ReceivedRequest {
        let info = Arc::clone(&self.info);
        let mut record = RequestRecord::start(&self.telemetry, info, description);
        if self.probes.is_some() {
            // Those are declared by the pod, whatever policies say.
            return ReceivedRequest {
                record: record.unrecorded(),
                is_allowed: true,
            };
        }
        let decided = self.authorization.decide(head);
        let is_allowed = decided.as_ref().is_none_or(|decided| decided.is_allowed);
        if let Some(decided) = decided {
            record.set_authorization(decided.note);
        }
        ReceivedRequest { record, is_allowed }
    }

    fn revoked(&self, head: OwnedHead) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if self.probes.is_some() {
            return Box::pin(std::future::pending());
        }
        let authorization = self.authorization.clone();
        Box::pin(async move { authorization.revoked(&head.as_head()).await })
    }
}
