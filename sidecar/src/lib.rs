//! The sidecar as a library, of which `main.rs` is a few lines.
//!
//! * [`run`]: the program, its command line, and what it starts in which order
//! * [`redirect`]: the pod's connections on their way to the proxy, by nf_tables
//! * `pod`: the one pod that it serves: its sockets, its node, its application
//! * `ask`: the running sidecar, asked by another process of its container

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "tests"
    )
)]

mod ask;
mod pod;
pub mod redirect;
pub mod run;
