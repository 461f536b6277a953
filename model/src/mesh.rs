//! The mesh as one immutable snapshot: resources in, decisions out.
//!
//! * [`change`]: the changes that turn a snapshot into the next
//! * [`snapshot`]: the snapshot, how changes are applied, and plain look-ups
//! * [`service_lookup`]: which Service a destination stands for
//! * [`resolution`], [`resolve`]: where a connection goes, and by which transport
//! * `topology`: which endpoints are near enough for a client
//! * [`connections`]: where routes for connections (TCPRoute, TLSRoute) lead them
//! * [`external_services`]: look-ups of what is outside the cluster
//! * [`network_policies`]: which candidates egress rules admit
//! * `*_index`: one kind of resources each, with what is compiled from them

mod authorization_index;
pub mod change;
pub mod connections;
mod endpoint_index;
pub mod external_services;
mod network_policies;
mod node_index;
mod protocol_index;
pub mod resolution;
pub mod resolve;
mod route_index;
mod service_index;
pub mod service_lookup;
pub mod snapshot;
mod topology;
mod workload_index;

pub use change::Change;
pub use connections::{ConnectionRoutes, RoutedConnection};
pub use resolution::{Candidate, Resolution, Transport, Unroutable};
pub use service_lookup::DialledService;
pub use snapshot::Mesh;
