//! The way of a connection out of a pod.
//!
//! * [`serve`]: the walk: identify, detect, connect, carry, record
//! * [`connection`]: what every phase needs to know of it
//! * [`port_protocol`], [`detection`]: whether it carries requests
//! * [`plan`], [`resolve`], [`external`], [`connection_route`], [`destination`]: where it may go
//! * [`connect`]: endpoint after endpoint
//! * [`early`]: all that before the connection is accepted
//! * [`error`], [`failure`]: why it goes nowhere, and the record of that
//! * [`http`]: its requests, where it carries any

mod connect;
mod connection;
mod connection_route;
mod destination;
mod detection;
mod early;
mod error;
mod external;
mod failure;
mod http;
mod plan;
mod port_protocol;
mod resolve;
mod serve;

pub use self::early::ConnectAnswer;
pub(crate) use self::early::{EarlyConnections, connect_early};
pub(crate) use self::serve::{refuse_over_limit, serve};
