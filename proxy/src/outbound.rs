//! The way of a connection out of a pod.
//!
//! * [`serve`]: the walk: identify, detect, connect, carry, record
//! * [`connection`]: what every phase needs to know of it
//! * [`port_protocol`], [`detection`]: whether it carries requests
//! * [`plan`], [`resolve`], [`external`], [`connection_route`], [`destination`]: where it may go
//! * [`connect`]: endpoint after endpoint
//! * [`error`]: why it goes nowhere
//! * [`http`]: its requests, where it carries any

mod connect;
mod connection;
mod connection_route;
mod destination;
mod detection;
mod error;
mod external;
mod http;
mod plan;
mod port_protocol;
mod resolve;
mod serve;

pub(crate) use self::serve::{refuse_over_limit, serve};
