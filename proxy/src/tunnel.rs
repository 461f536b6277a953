//! Tunnels: connections of applications, carried between two proxies inside mutual TLS.
//! The walks see streams of bytes only; which protocol carries them is known in here, and
//! nothing outside names the crate `h2`.
//!
//! * `pool`: the outgoing tunnel connections of one pod; opens streams on them
//! * `stream`: one carried connection, as a stream of bytes
//! * [`hbone`]: HTTP/2 CONNECT, as Istio's ambient mode has it; `hbone::server` is the
//!   receiving side
//! * `error`: why a tunnel could not be opened or served

mod error;
pub mod hbone;
mod pool;
mod stream;

pub(crate) use error::TunnelError;
pub(crate) use hbone::client::ConnectionTimes;
pub(crate) use pool::{TunnelPeer, TunnelPool};
pub(crate) use stream::{TunnelHealth, TunnelReceiver, TunnelSender, TunnelStream};
