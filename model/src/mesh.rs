//! The mesh as one immutable snapshot: resources in, decisions out.
//!
//! * [`change`]: the changes that turn a snapshot into the next
//! * [`snapshot`]: the snapshot, how changes are applied, and plain look-ups
//! * [`resolution`], [`resolve`]: where a connection goes, and by which transport
//! * [`connections`]: where routes for connections (TCPRoute, TLSRoute) lead them
//! * [`external_services`]: look-ups of what is outside the cluster
//! * `*_index`: one kind of resources each, with what is compiled from them

pub mod change;
pub mod connections;
mod endpoint_index;
pub mod external_services;
mod protocol_index;
pub mod resolution;
pub mod resolve;
mod route_index;
mod service_index;
pub mod snapshot;
mod workload_index;

pub use change::Change;
pub use connections::{ConnectionRoutes, RoutedConnection};
pub use resolution::{Candidate, Resolution, Transport, Unroutable};
pub use snapshot::Mesh;
