//! Connections to endpoints, as a pod opens them: in the clear, through a tunnel, by TLS
//! that begins here, or handed over to a pod of the same node.

mod connection;
mod delivery;
mod dial;
mod error;
mod names;
mod receiver;
mod request_head;
mod same_node;
mod tls;
mod under_way;

pub(crate) use self::connection::{SameNodeSide, UpstreamConnection};
pub(crate) use self::delivery::{DeliveredConnection, SameNodeDelivery};
pub(crate) use self::dial::Dialer;
pub(crate) use self::error::{DialError, ErrorSource, SameNodeRefusal};
pub(crate) use self::names::Names;
pub(crate) use self::receiver::{ReceivedRequest, RequestReceiver};
pub(crate) use self::request_head::RequestHead;
pub(crate) use self::same_node::{HandOver, Neighbours, SameNodeArrival, SameNodeInbound};
pub(crate) use self::tls::Originations;
pub(crate) use self::under_way::{RequestRevoked, RequestUnderWay};
