//! The wire between control plane and proxies: generated messages and services in [`v1`],
//! and the conversion of each message to and from the domain ([`weft_model`]), one file a
//! family of messages.
//!
//! A message is checked once, here, at the edge: what converts is valid, what
//! doesn't gets one error that names the field, and costs nothing but itself.
//!
//! * `resource`: resources of any kind, as discovery carries them
//! * `workload`, `service`, `endpoint`, `external_service`, `route`, `traffic_policy`,
//!   `network_policy`, `authorization`, `node`: one kind each; `request_authentication`: a part of
//!   the policies of `authorization`
//! * `revocation`: revoked certificates
//! * `idle`: idle limits, in two of these; `mtls`: modes, `node_access`: probes, in a workload
//! * `address`: addresses, address blocks and ports, in all of these
//! * [`rate_limit`]: descriptors and limits of Envoy's rate limit service, in [`envoy`]

mod access_log;
mod address;
mod authorization;
mod endpoint;
pub mod envoy;
mod external_service;
mod idle;
mod mtls;
mod network_policy;
mod node;
mod node_access;
pub mod rate_limit;
mod request_authentication;
mod resource;
mod revocation;
mod route;
mod service;
mod traffic_policy;
pub mod v1;
mod workload;

pub use address::InvalidAddress;
pub use authorization::InvalidAuthorizationPolicy;
pub use endpoint::InvalidEndpoint;
pub use external_service::InvalidExternalService;
pub use mtls::InvalidMtlsModes;
pub use network_policy::InvalidNetworkPolicy;
pub use node::InvalidNode;
pub use request_authentication::InvalidAuthentication;
pub use resource::{InvalidResource, kind_and_name, removal};
pub use route::InvalidRoute;
pub use service::InvalidService;
pub use traffic_policy::InvalidTrafficPolicy;
pub use workload::InvalidWorkload;
