//! HBONE: connections tunnelled as HTTP/2 CONNECT streams over mutual TLS, the way
//! Istio's ambient mode does it. There is no written specification; what is needed
//! to interoperate with ztunnel is followed exactly.
//!
//! * [`request`]: the CONNECT request, and what it says
//! * `client`: an outgoing connection, shared by many tunnels
//! * `server`: an accepted connection, and the requests that arrive on it
//! * `stream`: the two halves of one tunnel, and its permit on the connection
//! * `batch`: the writes of one turn, gathered
//! * `limits`, `keepalive`: what else both sides have in common

mod batch;
pub(crate) mod client;
mod keepalive;
pub(crate) mod limits;
pub mod request;
pub(crate) mod server;
pub(crate) mod stream;
