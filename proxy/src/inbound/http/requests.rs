//! What all requests of one inbound connection share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weft_model::node_access::ProbePort;

use super::probe_requests::ProbeRequests;
use crate::inbound::arrival::Arrival;
use crate::telemetry::{ConnectionInfo, PodTelemetry, RequestDescription, RequestRecord};
use crate::upstream::RequestReceiver;

/// Requests of one connection, as the receiving pod records them.
#[derive(Debug)]
pub(in crate::inbound) struct InboundRequests {
    telemetry: PodTelemetry,
    info: Arc<ConnectionInfo>,
    /// They have to be probes of kubelet's, which are not recorded.
    pub(super) probes: Option<ProbeRequests>,
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
    fn receive(&self, request: RequestDescription) -> RequestRecord {
        let record = RequestRecord::start(&self.telemetry, Arc::clone(&self.info), request);
        match self.probes {
            Some(_) => record.unrecorded(),
            None => record,
        }
    }
}
