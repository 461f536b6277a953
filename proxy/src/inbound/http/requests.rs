//! What all requests of one inbound connection share.

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use tokio_util::sync::CancellationToken;
use weft_model::Mesh;
use weft_model::node_access::{ProbePort, ProbeRequest};
use weft_model::workload::WorkloadUid;

use super::probe_requests::ProbeRequests;
use crate::inbound::arrival::Arrival;
use crate::inbound::authorization_policies::{DecidedRequest, PolicySubject};
use crate::inbound::under_way::RequestsUnderWay;
use crate::jwt::now;
use crate::memory::PodMemory;
use crate::node::Node;
use crate::telemetry::{ConnectionInfo, PodTelemetry, RequestDescription, RequestRecord};
use crate::traffic::{PolicyRefusal, RateLimitedClient, ReceivedRates};
use crate::upstream::{Passage, ReceivedRequest, RequestHead, RequestReceiver, RequestUnderWay};

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
    rate: RequestRate,
    subject: PolicySubject,
    memory: Arc<PodMemory>,
    under_way: Arc<RequestsUnderWay>,
}

/// How often the client of one connection asks the pod.
#[derive(Debug)]
struct RequestRate {
    rates: Arc<ReceivedRates>,
    telemetry: PodTelemetry,
    pod: WorkloadUid,
    port: u16,
    client: RateLimitedClient,
    /// What is kubelet's, if it is the client, and has no rate: a pod that is overloaded would be
    /// restarted.
    probes: Option<ProbePort>,
}

impl RequestAuthorization {
    /// The request from now on, and the decision by the newest policies; `None` where everything
    /// is allowed.
    fn decide(&self, head: &RequestHead<'_>) -> (Arc<RequestUnderWay>, Option<DecidedRequest>) {
        let came = now();
        let request = Arc::new(RequestUnderWay::new(head, came, &self.memory));
        self.under_way.enter(&request);
        let mesh = self.node.store.snapshot();
        let decided = self.subject.decide(&mesh, head, came);
        // What isn't let in anyway costs nobody a part of its rate.
        let is_allowed = decided.as_ref().is_none_or(DecidedRequest::is_allowed);
        match is_allowed.then(|| self.rate.admit(&mesh, head)) {
            Some(Err(refusal)) => (request, Some(DecidedRequest::refused(decided, refusal))),
            Some(Ok(())) | None => (request, decided),
        }
    }
}

impl RequestRate {
    fn new(arrival: &Arrival) -> Self {
        Self {
            rates: Arc::clone(&arrival.pod.received_rates),
            telemetry: arrival.pod.telemetry.clone(),
            pod: arrival.pod.uid().clone(),
            port: arrival.destination.port(),
            client: arrival.rate_limited_client(),
            probes: arrival.exempt_probes(),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// When it comes too early.
    fn admit(&self, mesh: &Mesh, head: &RequestHead<'_>) -> Result<(), PolicyRefusal> {
        let limits = mesh.receiving_rate_limits(&self.pod, self.port);
        if limits.is_empty() || self.is_probe(head) {
            return Ok(());
        }
        let admitted = self.rates.admit(&limits, &self.client, Instant::now());
        admitted.inspect_err(|refusal| {
            let mut limited = limits.of_all.iter().chain(&limits.of_client);
            if let Some((service, _)) = limited.next() {
                let metrics = self.telemetry.metrics();
                metrics.count_refused(service, refusal.flag());
            }
        })
    }
}

impl RequestRate {
    fn is_probe(&self, head: &RequestHead<'_>) -> bool {
        let Some(probes) = &self.probes else {
            return false;
        };
        let target = match head.query {
            Some(query) => format!("{}?{query}", head.path),
            None => head.path.to_owned(),
        };
        // The health service of gRPC is called by POST.
        let is_http2 = head.method == Method::POST;
        let request = ProbeRequest {
            method: head.method.as_str(),
            target: &target,
            is_http2,
            has_body: is_http2,
            is_plain: true,
        };
        probes.authorize_request(request).is_ok()
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
                rate: RequestRate::new(arrival),
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
                passage: Passage::Allowed(None),
                under_way: None,
            };
        }
        let (under_way, decided) = self.authorization.decide(head);
        let passage = match decided {
            None => Passage::Allowed(None),
            Some(DecidedRequest { passage, note, .. }) => {
                record.set_authorization(note);
                passage
            }
        };
        ReceivedRequest {
            record,
            passage,
            under_way: Some(under_way),
        }
    }
}
