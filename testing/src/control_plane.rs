//! A control plane that does what the test says: a real gRPC server over TLS on loopback.

mod server;
mod signing;
mod stream;

pub use server::{FakeControlPlane, SERVER_NAME};
pub use signing::Signing;
pub use stream::DiscoveryStream;
