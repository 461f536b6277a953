//! The guard in front of the HTTP/1 parser: no request passes that two parsers might
//! read differently.
//!
//! Request smuggling lives on tolerance: one server of a chain takes a request's end
//! from one field, or a line's end from one byte, and the next server from another. A
//! parser that repairs such input and passes on what it understood has hidden the
//! difference. So [`Guard`] reads the raw bytes of every request on a connection before
//! the parser does, follows where each one ends, and refuses whatever has more than one
//! reading (RFC 9112 sections 2.2, 3.2, 5.1, 5.2, 6.1, 6.3, 7.1). What is merely wrong, such as a
//! control character in a value, it leaves to the parser.
//!
//! [`GuardedStream`] puts a guard around a connection.

mod chunks;
mod guard;
mod head;
mod limits;
mod lines;
mod refusal;
mod stream;

pub use guard::{Guard, Refused};
pub use limits::Limits;
pub use refusal::{Refusal, RefusalKind};
pub use stream::{GuardHandle, GuardedStream};
