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
use crate::jwt::{TokenVerifier, now};
use crate::node::Node;
use crate::policy_verdict::AuthorizationVerdict;
use crate::telemetry::{ConnectionInfo, PodTelemetry, RequestDescription, RequestRecord};
use crate::upstream::{OwnedHead, Passage, ReceivedRequest, RequestHead, RequestReceiver};

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
    tokens: Arc<TokenVerifier>,
    subject: PolicySubject,
}

impl RequestAuthorization {
    /// The decision by the newest policies; `None` where everything is allowed.
    fn decide(&self, head: &RequestHead<'_>) -> Option<DecidedRequest> {
        let mesh = self.node.store.snapshot();
        self.subject
            .decide(&mesh, &self.pod, &self.tokens, head, now())
    }

    /// Resolves when the policies don't allow what they allowed before. A token is as it was when
    /// the request came: that its time is over since ends nothing.
    async fn revoked(&self, head: &RequestHead<'_>) {
        let came = now();
        let mut changes = self.node.store.subscribe();
        let last = AuthorizationVerdict::default();
        loop {
            let mesh = self.node.store.snapshot();
            if let PodPolicies::Known(policies) = PodPolicies::of(&mesh, &self.pod) {
                let is_revoked = last.ends(policies, |now| {
                    self.subject.revokes_request(now, &self.tokens, head, came)
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
                tokens: Arc::clone(&arrival.pod.tokens),
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
                passage: Passage::Allowed(None),
            };
        }
        let passage = match self.authorization.decide(head) {
            None => Passage::Allowed(None),
            Some(DecidedRequest { passage, note }) => {
                record.set_authorization(note);
                passage
            }
        };
        ReceivedRequest { record, passage }
    }

    fn revoked(&self, head: OwnedHead) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if self.probes.is_some() {
            return Box::pin(std::future::pending());
        }
        let authorization = self.authorization.clone();
        Box::pin(async move { authorization.revoked(&head.as_head()).await })
    }
}
