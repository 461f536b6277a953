//! Refuses requests of HTTP/1 that two parsers may read differently.
//!
//! # Request smuggling
//!
//! On a connection of HTTP/1 requests follow each other without a mark in between: where one
//! ends is told by fields of its head. Two servers in a row, such as a proxy and an
//! application, must see that end at the same byte. Where they don't, the bytes that
//! the first one took for a body are a request for the second one: a smuggled request, which
//! nobody has authorized, logged or counted, and whose response goes to whoever asks next (RFC
//! 9112 section 11.2).
//!
//! ```text
//! POST /cart HTTP/1.1
//! Host: shop
//! Content-Length: 40            <- the proxy goes by this: one request
//! Transfer-Encoding: chunked    <- the application by this: it ends with the chunk of 0 bytes
//!
//! 0
//!
//! GET /admin HTTP/1.1           <- ... and here begins the next one
//! Host: shop
//! ```
//!
//! It lives on tolerance. A parser that repairs what is malformed, and sends on what it
//! understood, has hidden the difference; one that ignores what it doesn't know has made it.
//! So this crate reads the raw bytes before the parser does, follows where each request ends,
//! and refuses whatever has more than one reading. What is merely wrong, such as a control
//! character in a value, it leaves to the parser.
//!
//! # What is refused
//!
//! | what | why | RFC 9112 |
//! | --- | --- | --- |
//! | lines that end with LF alone, CR or NUL within | one line or two | 2.2 |
//! | a request line of other than three parts | another target | 3 |
//! | a target of a form that its method doesn't have | another target | 3.2 |
//! | no Host, two of them, one that isn't one; another one beside CONNECT's target | another destination | 3.2 |
//! | white space before a field's colon, folded lines, names that are no tokens | another field, or none | 5.1, 5.2 |
//! | a Content-Length that isn't one number | another length | 6.2, 6.3 |
//! | a Transfer-Encoding other than `chunked`; one beside a Content-Length, or in HTTP/1.0 | another framing | 6.1, 6.3 |
//! | chunk sizes, extensions and ends that aren't as the grammar has them | another end of the body | 7.1 |
//! | trailers that are about framing or destination | read by those who merge them | 7.1.2 |
//! | bytes ahead of the answer to an upgrade that was denied | a request, or another protocol | 9.3 |
//!
//! Each is a [`Refusal`], which says with which status it is answered and of which
//! [`RefusalKind`] it is. Heads larger than the [`Limits`] are refused as well.
//!
//! # How it is used
//!
//! A URL for a target may name another host than Host does: it wins (RFC 9112 section 3.2.2),
//! and whoever sends the request on sets Host by it.
//!
//! Servers parse targets as URIs, and clients send some that are none. Those pass: the server
//! reads the bytes that no URI has percent-encoded, and [`GuardHandle::original_target`] says what
//! they were.
//!
//! [`GuardedStream`] wraps a connection and is read by the server in its place. [`Guard`] is
//! what it goes by: a state machine over bytes, without I/O.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http_body_util::Empty;
//! use hyper::body::{Bytes, Incoming};
//! use hyper::server::conn::http1;
//! use hyper::service::service_fn;
//! use hyper::{Request, Response};
//! use hyper_util::rt::TokioIo;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use weft_http_guard::{GuardedStream, Limits, Refusal};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut client, connection) = tokio::io::duplex(4096);
//! let (stream, guard) = GuardedStream::new(connection, Limits::DEFAULT);
//! let service = service_fn(|_request: Request<Incoming>| {
//!     let guard = guard.clone();
//!     async move {
//!         let response = Response::new(Empty::<Bytes>::new());
//!         guard.response_decided(response.status());
//!         Ok::<_, Infallible>(response)
//!     }
//! });
//! let server = http1::Builder::new()
//!     .half_close(true)
//!     .serve_connection(TokioIo::new(stream), service);
//!
//! let good = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
//! let folded = "GET / HTTP/1.1\r\nHost: shop\r\nName: value\r\n Content-Length: 9\r\n\r\n";
//! client.write_all(format!("{good}{folded}{good}").as_bytes()).await?;
//! server.await.unwrap_err();
//! let mut responses = String::new();
//! client.read_to_string(&mut responses).await?;
//!
//! let statuses: Vec<_> = responses.lines().filter(|line| line.starts_with("HTTP/")).collect();
//! assert_eq!(statuses, ["HTTP/1.1 200 OK", "HTTP/1.1 400 Bad Request"]);
//! assert_eq!(guard.refusal(), Some(Refusal::ObsFold));
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! From the outside in:
//!
//! * `stream`, `handle`, `status_line`: the wrapper, its other end, and what it writes
//! * `ahead`, `interim`: what comes while the server doesn't read, and what is written before
//!   its response
//! * `linger`: the end of a connection whose client still sends
//! * `guard`: the requests of one connection, and where each one ends
//! * `line`, `request_line`, `field`, `authority`, `characters`: the grammar of a head
//! * `target`: targets that the server reads percent-encoded
//! * `head`, `framing`: what a head says in all, and the length of the body
//! * `chunked`, `chunk_extension`: chunked bodies
//! * `refusal`, `limits`: what is refused, and beyond which size

mod ahead;
mod authority;
mod characters;
mod chunk_extension;
mod chunked;
mod deadline;
mod field;
mod framing;
mod guard;
mod handle;
mod head;
mod interim;
mod limits;
mod line;
mod linger;
mod refusal;
mod request_line;
mod status_line;
mod stream;
mod target;

pub use ahead::ClientEnd;
pub use deadline::HeadDeadline;
pub use guard::{Guard, Refused};
pub use handle::GuardHandle;
pub use limits::Limits;
pub use refusal::{Refusal, RefusalKind};
pub use stream::GuardedStream;
pub use target::encode_target;
