//! Messages and services of Weft's own protocol, generated from `proto/weft/mesh/v1` by
//! `cargo xtask codegen`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

include!("generated/weft.mesh.v1.rs");
