//! Where a pod's connections come in: its listeners, their accept loops, and their end.
//! The only place that knows both walks.
//!
//! * [`workers`]: the data path's threads
//! * [`listeners`]: the sockets inside a pod's namespace
//! * [`accept`]: taking connections from them
//! * [`connector`]: connecting before that
//! * [`pod_proxy`]: one pod's proxy, from start to drain

mod accept;
mod connector;
mod listeners;
mod pod_proxy;
mod upkeep;
pub mod workers;

pub use self::connector::Connector;
pub use self::listeners::{Listener, Listeners};
pub use self::pod_proxy::PodProxy;
pub use crate::outbound::ConnectAnswer;
