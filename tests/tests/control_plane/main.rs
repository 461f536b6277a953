//! The control plane on a real API server, with the permissions of deploy/ and no more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod authentication;
mod authority;
mod authorization_policy;
mod bed;
mod capture;
mod external_service;
mod forwarder;
mod request_authentication;
mod rotation;
mod routes;
mod sidecars;
mod traffic_policy;
mod watch;
mod webhook;
