//! What a client says first, and what follows from it. First bytes are read and kept, by
//! one mechanism ([`PrefixedStream`]): whoever reads the connection afterwards gets them
//! first. What they mean, the model's parsers decide.
//!
//! * `prefixed`: a stream with its first bytes
//! * `protocol`: HTTP/1, HTTP/2, TLS, or something else
//! * `client_hello`: the server name of TLS
//! * `authority`: the host that a client asks for, by TLS or by HTTP
//! * `error`: why first bytes tell nothing

mod authority;
mod client_hello;
mod error;
mod prefixed;
mod protocol;

pub(crate) use authority::read_requested_host;
pub(crate) use client_hello::read_client_hello;
pub(crate) use error::DetectError;
pub(crate) use prefixed::{FirstBytes, PrefixedStream};
pub(crate) use protocol::{HTTP2_FRAME_HEADER, begins_http2, read_protocol};

#[cfg(test)]
mod tests;
