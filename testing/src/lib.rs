//! What Weft's tests have in common: whoever a proxy, an agent or a control plane talks to,
//! with real sockets and real TLS, and small resources to talk about.
//!
//! Everything here knows the domain ([`weft_model`]) and the wire ([`weft_proto`]) only: a
//! crate's own unit tests can use it without meeting a second copy of their crate.
//!
//! * [`authority`]: a certificate authority, and certificates that are good or bad
//! * [`tls`], [`hbone`]: either end of TLS, and of a tunnel
//! * [`control_plane`]: a control plane that does what the test says
//! * [`agent`]: an agent, as a control plane knows it
//! * [`tcp`], [`web`]: servers and connections on loopback
//! * [`fixtures`], [`resources`]: small resources, as the model and as discovery has them
//! * [`wait`]: waiting for a state, with a deadline

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here fails the test"
)]

pub mod agent;
pub mod authority;
pub mod control_plane;
pub mod fixtures;
pub mod hbone;
pub mod resources;
pub mod tcp;
pub mod tls;
pub mod wait;
pub mod web;
