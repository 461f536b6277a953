//! Requests that arrive for a pod: each is parsed, forwarded to the application and recorded
//! (`reporter="destination"`). Nothing of them is changed but what concerns one connection
//! only (RFC 9110 section 7.6.1) and what would hide requests (upgrades to HTTP or TLS).
//!
//! * [`serve`]: a client's connection
//! * [`requests`]: what all its requests share; also where neighbours' requests are received
//! * [`exchange`]: the walk of a request
//! * [`probe_requests`]: those that are only let through as probes
//! * [`application`]: the HTTP connection to the application

mod application;
mod exchange;
mod pending_heads;
mod probe_requests;
mod requests;
mod serve;

pub(super) use self::requests::InboundRequests;
pub(super) use self::serve::serve;
