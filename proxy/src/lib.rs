//! The data plane, a library: the same proxy for the node's agent and for a sidecar.
//!
//! A connection out of a pod walks through `outbound`, one into a pod through
//! `inbound`; both read top-down as a short list of phases. Everything else serves
//! these two:
//!
//! * [`sockets`]: the sockets of one pod, the one trait; [`net`] connects them
//! * [`proxy`], [`workers`]: one proxy per pod, on its home worker
//! * [`tls`], [`tunnel`], [`hbone`]: the tunnel
//! * [`http`]: requests, matched and changed as routes say
//! * `stream`, `detect`, `relay`: one end of a connection, its first bytes, and bytes both ways
//! * [`resilience`]: what TrafficPolicies let through, and where to
//! * `traffic_split`: the shares of a rule's backends
//! * `sniff`: what a client sends first
//! * `record`, [`metrics`], `access_log`, [`connections`]: what is known afterwards
//! * [`rate_limit`]: asking a rate limit service
//! * [`config`], [`identity`], [`store`]: what the control plane tells
//! * [`admin`]: what an operator asks

mod accept;
mod access_log;
pub mod admin;
pub mod config;
pub mod connections;
#[allow(dead_code, unused_imports, reason = "until the walks use it")]
mod detect;
pub mod error;
#[cfg(test)]
mod fixtures;
pub mod hbone;
pub mod http;
pub mod identity;
mod inbound;
pub mod metrics;
pub mod net;
mod outbound;
pub mod proxy;
pub mod rate_limit;
pub mod record;
mod relay;
pub mod resilience;
pub mod shared;
mod sniff;
pub mod sockets;
pub mod store;
#[allow(dead_code, reason = "until the walks use it")]
mod stream;
pub mod tls;
mod traffic_split;
#[allow(dead_code, unused_imports, reason = "until the walks use it")]
pub mod tunnel;
pub mod workers;

pub use proxy::PodProxy;
pub use relay::IdleTimeouts;
pub use shared::{Settings, Shared};
pub use traffic_split::RuleSequences;
