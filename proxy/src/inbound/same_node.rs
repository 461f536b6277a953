//! Connections that other pods of this node hand over to a pod's inbound side in this
//! process. They never reach a wire, so they aren't encrypted; they are authorized and
//! recorded like any other.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::application::{Admitted, admit};
use super::arrival::Arrival;
use super::authorize::{Credentials, Grant};
use super::deliver::deliver_http;
use super::http::InboundRequests;
use crate::pod::Pod;
use crate::stream::Stream;
use crate::upstream::{
    DeliveredConnection, HandOver, RequestReceiver, SameNodeArrival, SameNodeDelivery,
    SameNodeInbound, SameNodeRefusal, SameNodeSide, UpstreamConnection,
};

/// A connection to a port that carries HTTP alone, whose client's side may not look at it.
#[derive(Debug)]
struct Delivery {
    arrival: Arrival,
    grant: Grant,
    connect_time: Duration,
}

impl SameNodeDelivery for Delivery {
    fn deliver(
        self: Box<Self>,
        connection: DeliveredConnection,
        draining: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let DeliveredConnection {
            downstream,
            application,
            record,
            admission,
        } = connection;
        let admitted = Admitted {
            application,
            connect_time: self.connect_time,
            admission,
            grant: self.grant,
        };
        Box::pin(deliver_http(
            self.arrival,
            admitted,
            downstream,
            record,
            draining,
        ))
    }
}

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
        workload: handed.source.uid.clone(),
    };
    let mut arrival = Arrival::new(pod, credentials, handed.client, handed.destination);
    arrival.source = Some(handed.source);
    let mut record = arrival.record();
    let admitted = match admit(&arrival).await {
        Ok(admitted) => admitted,
        Err(error) => {
            let refusal = SameNodeRefusal::from(&error);
            error.record_in(record);
            return Err(refusal);
        }
    };
    let still_allowed = arrival.still_allowed(&admitted.grant);
    record.set_authorization(admitted.grant.note.clone());
    record.connected(Some(still_allowed));
    let receiver = admitted.grant.sees_requests.then(|| {
        let requests = InboundRequests::new(&arrival);
        Arc::new(requests) as Arc<dyn RequestReceiver>
    });
    let delivery = receiver.is_some().then(|| {
        let delivery = Delivery {
            arrival: arrival.clone(),
            grant: admitted.grant,
            connect_time: admitted.connect_time,
        };
        Box::new(delivery) as Box<dyn SameNodeDelivery>
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
            delivery,
            admission: admitted.admission,
        }),
        descriptor: None,
    })
}
