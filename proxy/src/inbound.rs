//! The ways of a connection into a pod: through a tunnel, as plaintext, or handed over by
//! another pod of the same node. Each becomes an [`arrival`]; what follows is the same for
//! all: authorize, connect to the application, carry, record.
//!
//! * [`hbone`], [`plaintext`], [`same_node`]: the ways
//! * [`arrival`]: what every phase needs to know of a connection
//! * [`authorize`]: whether it may reach the pod
//! * [`authorization_policies`]: what AuthorizationPolicies say of it and of its requests
//! * [`under_way`]: its requests, which policies that change may revoke
//! * [`application`]: the pod's own application
//! * [`deliver`], [`carry`]: carrying it there
//! * [`probes`]: what kubelet sends to a strict pod, and nothing else
//! * [`http`]: its requests, on ports that are declared as HTTP
//! * [`error`]: why it fails

mod application;
mod arrival;
mod authorization_policies;
mod authorize;
mod carry;
mod deliver;
mod error;
pub(crate) mod hbone;
mod http;
pub(crate) mod plaintext;
mod probes;
pub(crate) mod same_node;
mod under_way;
