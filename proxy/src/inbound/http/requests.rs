//! What all requests of one inbound connection share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weft_model::node_access::ProbePort;

use super::probe_requests::ProbeRequests;
use crate::inbound::arrival::Arrival;
use crate::inbound::authorization_policies::{DecidedRequest, PolicySubject};
use crate::inbound::under_way::RequestsUnderWay;
use crate::memory::PodMemory;
use crate::node::Node;
use crate::telemetry::{ConnectionInfo, PodTelemetry, RequestDescription, RequestRecord};
use crate::upstream::{ReceivedRequest, RequestHead, RequestReceiver, RequestUnderWay};

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
#[derive(Debug)]
struct RequestAuthorization {
    node: Arc<Node>,
    subject: PolicySubject,
    memory: Arc<PodMemory>,
    under_way: Arc<RequestsUnderWay>,
}

impl RequestAuthorization {
    /// The request from now on, and the decision by the newest policies; `None` where everything
    /// is allowed.
    fn decide(&self, head: &RequestHead<'_>) -> (Arc<RequestUnderWay>, Option<DecidedRequest>) {
        let request = Arc::new(RequestUnderWay::new(head, &self.memory));
        self.under_way.enter(&request);
        let mesh = self.node.store.snapshot();
        (request, self.subject.decide(&mesh, head))
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
                subject: arrival.policy_subject(),
                memory: Arc::clone(&arrival.pod.memory),
                under_way: Arc::clone(&arrival.under_way),
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
                under_way: None,
            };
        }
        let (under_way, decided) = self.authorization.decide(head);
        let is_allowed = decided.as_ref().is_none_or(|decided| decided.is_allowed);
        if let Some(decided) = decided {
            record.set_authorization(decided.note);
        }
        ReceivedRequest {
            record,
            is_allowed,
            under_way: Some(under_way),
        }
    }
}
