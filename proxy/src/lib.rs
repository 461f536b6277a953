//! The data plane, a library: the same proxy for the node's agent and for a sidecar.
//!
//! A connection out of a pod walks through `outbound`, one into a pod through `inbound`; both
//! read top-down as a short list of phases, and hand their requests to a folder `http` of
//! their own. Everything else serves these two, here from the top down:
//!
//! * [`runtime`]: puts a proxy together: what a binary starts
//! * [`listen`]: a pod's listeners, accept loops and drain; the only place that knows both
//!   walks
//! * [`node`], `pod`: what all pods share, and what belongs to one
//! * `upstream`, `tunnel`: connections to endpoints, and what carries them between proxies
//! * `windows`, `memory`: what connections of HTTP/2, of both kinds, may have buffered, and what
//!   all connections hold together
//! * `http`: HTTP as a mechanism; `relay`, `stream`, `detect`: bytes as a mechanism
//! * `jwt`: tokens of requests
//! * `policy_verdict`: what NetworkPolicies say of a connection that is open
//! * `traffic`, `rate_limit`: what TrafficPolicies and rate limit services let through
//! * [`telemetry`]: what is known of connections and requests, while they last and afterwards
//! * [`discovery`], [`identity`], [`control_plane`], [`store`]: what the control plane tells
//! * [`sockets`]: where sockets live, the one trait
//! * [`admin`]: what an operator asks

pub mod admin;
mod admission;
mod component;
pub mod control_plane;
mod detect;
pub mod discovery;
#[cfg(test)]
mod fixtures;
mod http;
pub mod identity;
mod inbound;
mod jwt;
mod key_requests;
mod last_known;
pub mod listen;
mod memory;
pub mod node;
mod outbound;
mod pod;
mod policy_verdict;
mod probe_redirects;
mod rate_limit;
mod relay;
pub mod runtime;
pub mod settings;
pub mod sockets;
pub mod store;
mod stream;
mod sync;
pub mod telemetry;
pub mod tls;
mod traffic;
pub mod tunnel;
mod upstream;
mod windows;

pub use self::component::Component;
/// For its fuzz target.
pub use self::http::cookie_value;
/// For its fuzz target.
pub use self::jwt::read_token;
pub use self::listen::PodProxy;
pub use self::node::Node;
pub use self::settings::{HeadLimits, Settings};
