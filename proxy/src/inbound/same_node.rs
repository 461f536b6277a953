//! Connections that other pods of this node hand over to a pod's inbound side in this
//! process. They never reach a wire, so they aren't encrypted; they are authorized and
//! recorded like any other.

use std::sync::Arc;

use super::application::admit;
use super::arrival::Arrival;
use super::authorize::Credentials;
use super::http::InboundRequests;
use crate::pod::Pod;
use crate::stream::Stream;
use crate::upstream::{
    HandOver, RequestReceiver, SameNodeArrival, SameNodeInbound, SameNodeRefusal, SameNodeSide,
    UpstreamConnection,
};

/// A pod's inbound side, as its neighbours reach it.
#[derive(Debug)]
pub(crate) struct SameNodeListener(pub(crate) Arc<Pod>);

impl SameNodeInbound for SameNodeListener {
    fn hand_over(&self, arrival: SameNodeArrival) -> HandOver<'_> {
        Box::pin(accept_from_neighbour(&self.0, arrival))
    }
}

async fn accept_from_neighbour(
    pod: &Arc<Pod>,
    handed: SameNodeArrival,
) -> Result<UpstreamConnection, SameNodeRefusal> {
    let credentials = Credentials::SameNode {
        identity: handed.source.identity.clone(),
    };
    let mut arrival = Arrival::new(pod, credentials, handed.client, handed.destination);
    arrival.source = Some(handed.source);
    let mut record = arrival.record();
    let admitted = match admit(&arrival).await {
        Ok(admitted) => admitted,
        Err(error) => {
            let refusal = SameNodeRefusal::from(&error);
            record.fail(error.flag(), &error);
            return Err(refusal);
        }
    };
    let still_allowed = arrival.credentials.still_allowed(arrival.destination);
    record.connected(Some(still_allowed));
    let receiver = arrival.carries_recorded_requests().then(|| {
        let requests = InboundRequests::new(&arrival);
        Arc::new(requests) as Arc<dyn RequestReceiver>
    });
    // On other ports it is known now that bytes are carried.
    if receiver.is_none() {
        record.opened_connected(admitted.connect_time);
    }
    Ok(UpstreamConnection {
        stream: Stream::Tcp(admitted.application),
        same_node: Some(SameNodeSide {
            record,
            receiver,
            admission: admitted.admission,
        }),
    })
}
