//! A connected endpoint.

use std::sync::Arc;

use super::delivery::SameNodeDelivery;
use super::receiver::RequestReceiver;
use crate::admission::{Admission, DescriptorShare};
use crate::stream::Stream;
use crate::telemetry::ConnectionRecord;

/// A connected endpoint.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    /// The way there.
    pub(crate) stream: Stream,
    /// The receiving pod's side, where this process serves that pod, too.
    pub(crate) same_node: Option<SameNodeSide>,
    /// That of the connection, where it is the pod's own and nobody else's.
    pub(crate) descriptor: Option<DescriptorShare>,
}

impl UpstreamConnection {
    /// A connection whose other end this process doesn't serve.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            same_node: None,
            descriptor: None,
        }
    }

    /// The same, with a descriptor of its own.
    pub(crate) fn with_descriptor(self, descriptor: DescriptorShare) -> Self {
        Self {
            descriptor: Some(descriptor),
            ..self
        }
    }

    /// Where requests on it are received, where this process serves the receiving pod and
    /// its port carries requests.
    pub(crate) fn receiver(&self) -> Option<Arc<dyn RequestReceiver>> {
        self.same_node.as_ref()?.receiver.clone()
    }
}

/// What the inbound side of a pod of this node keeps of a connection that was handed over
/// to it: it lasts as long as the connection does.
#[derive(Debug)]
pub(crate) struct SameNodeSide {
    /// The connection as the receiving pod records it. With a receiver it is connected, and
    /// whoever made it says what it carries.
    pub(crate) record: ConnectionRecord,
    /// Where requests on it are received; `None` on ports whose requests nobody looks at.
    pub(crate) receiver: Option<Arc<dyn RequestReceiver>>,
    /// Looks at what is carried to a port that carries HTTP alone, where whoever made the
    /// connection doesn't; `None` on other ports.
    pub(crate) delivery: Option<Box<dyn SameNodeDelivery>>,
    /// Its permit under the limit of the receiving pod's connections.
    pub(crate) admission: Option<Admission>,
}
