//! Messages and services of Envoy that Weft speaks, laid out as its packages are. Generated
//! from `proto/envoy` by `cargo xtask codegen`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

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
