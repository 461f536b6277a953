//! The wire between control plane and proxies: generated messages and services
//! in [`v1`], and beside each message its conversion to and from the domain
//! ([`weft_model`]).
//!
//! A message is checked once, here, at the edge: what converts is valid, what
//! doesn't gets one error that names the field, and costs nothing but itself.

mod address;
mod endpoint;
mod external;
pub mod rate_limit;
mod resource;
mod route;
mod service;
mod traffic;
mod workload;

pub use address::InvalidAddress;
pub use endpoint::InvalidEndpoint;
pub use external::InvalidExternalService;
pub use resource::{InvalidResource, gone, kind_and_name};
pub use route::InvalidRoute;
pub use service::InvalidService;
pub use traffic::InvalidTrafficPolicy;
pub use workload::InvalidWorkload;

/// Generated from `proto/weft/mesh/v1` by `cargo xtask codegen`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("generated/weft.mesh.v1.rs");
}

/// Envoy's messages that Weft speaks, laid out as its packages are. Generated from
/// `proto/envoy` by `cargo xtask codegen`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!("generated/envoy.config.core.v3.rs");
            }
        }
    }
    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                pub mod v3 {
                    include!("generated/envoy.extensions.common.ratelimit.v3.rs");
                }
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            include!("generated/envoy.r#type.v3.rs");
        }
    }
    pub mod service {
        pub mod ratelimit {
            pub mod v3 {
                include!("generated/envoy.service.ratelimit.v3.rs");
            }
        }
    }
}
