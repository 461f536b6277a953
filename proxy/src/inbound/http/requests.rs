//! What all requests of one inbound connection share.

use std::sync::Arc;

use crate::inbound::arrival::Arrival;
use crate::telemetry::{ConnectionInfo, PodTelemetry, RequestDescription, RequestRecord};
use crate::upstream::RequestReceiver;

/// Requests of one connection, as the receiving pod records them.
#[derive(Debug)]
pub(in crate::inbound) struct InboundRequests {
    telemetry: PodTelemetry,
    info: Arc<ConnectionInfo>,
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
        }
    }
}

impl RequestReceiver for InboundRequests {
    fn receive(&self, request: RequestDescription) -> RequestRecord {
        RequestRecord::start(&self.telemetry, Arc::clone(&self.info), request)
    }
}
