//! The domain of the mesh: what runs where, who may talk to whom, and where a
//! connection goes.
//!
//! Everything here is pure: no I/O, no clock, no async runtime. The data plane
//! asks this crate what to do with a connection and then does it; the control
//! plane fills it from Kubernetes objects; both are tested without either.
//!
//! * [`address`]: original destinations and address blocks
//! * [`identity`]: SPIFFE IDs and trust domains
//! * [`workload`]: a pod, as the mesh sees it
//! * [`service`]: a Service and its endpoints
//! * [`policy`]: who may connect, and how
//! * [`balance`]: which endpoint a connection or a request goes to
//! * [`client_hello`]: the name that a TLS client asks for
//! * [`external`]: services outside the cluster, and who may leave it
//! * [`greeting`]: whom a client asks for by its first bytes
//! * [`protocol`]: what is spoken on a connection
//! * [`route`]: routes of the Gateway API, and what they say of a request
//! * [`traffic`]: what a TrafficPolicy says of a Service
//! * [`rate_limit`]: what a rate limit service is asked about a request
//! * [`breaker`], [`ejection`], [`budget`], [`bucket`], [`window`]: what a
//!   TrafficPolicy counts
//! * [`mesh`]: the immutable snapshot that ties them together

pub mod address;
pub mod balance;
pub mod breaker;
pub mod bucket;
pub mod budget;
pub mod client_hello;
pub mod ejection;
pub mod external;
pub mod greeting;
pub mod identity;
pub mod mesh;
pub mod policy;
pub mod protocol;
pub mod rate_limit;
pub mod route;
pub mod service;
pub mod traffic;
pub mod window;
pub mod workload;

pub use address::{AddressBlock, OriginalDestination};
pub use identity::{SpiffeId, TrustDomain};
pub use mesh::{Change, Mesh};
