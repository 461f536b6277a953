//! What the first bytes of a connection show.
//!
//! * [`protocol`]: the application protocol, declared or detected
//! * [`client_hello`]: the server name that a TLS client asks for
//! * [`authority`]: the host that a client asks for, by TLS or by HTTP/1

pub mod authority;
pub mod client_hello;
pub mod protocol;
