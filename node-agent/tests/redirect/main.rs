//! The kernel programs, in a real kernel: real cgroups, real network namespaces, real
//! connections. Needs root and `cargo xtask build-ebpf`; run by `cargo xtask test`, or
//! `cargo test -p weft-node-agent --features kernel-tests --test redirect`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod addresses;
mod capture_probe;
mod claims;
mod earlier;
mod enforcement;
mod full;
mod held;
mod helper;
mod inbound;
mod lab;
mod listening;
mod many;
mod node;
mod outbound;
mod pins;
mod ports;
mod spread;
mod start;
mod unknown;
