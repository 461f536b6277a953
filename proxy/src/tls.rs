//! Mutual TLS between proxies: TLS 1.3 only, post-quantum key exchange preferred, peers
//! verified by SPIFFE ID. TLS to services outside the mesh is `upstream::tls`.

mod configs;
pub(crate) mod handshake;
pub(crate) mod revocation;
mod verify;

pub(crate) use self::configs::provider;
pub use self::configs::{client_config, peer_identity, server_config};
pub(crate) use self::handshake::handshake_failure;
pub use self::verify::{InvalidPeer, spiffe_id};
