//! What the guard refuses and what it lets pass, alone and in front of hyper's server.
//!
//! * `head`, `framing`, `chunked`, `upgrade`, `limits`: shapes that are refused, by theme
//! * `clients`: what real clients send, and must pass
//! * `properties`: what holds for any bytes
//! * `hyper_server`, `agreement`: the guard in front of a server: who answers what, and that
//!   both see the same requests

#![allow(clippy::unwrap_used, reason = "tests")]

mod agreement;
mod chunked;
mod clients;
mod framing;
mod head;
mod hyper_server;
mod limits;
mod properties;
mod requests;
mod upgrade;

use weft_http_guard::{Guard, Refusal};

/// What the guard says of a whole input: how many requests, or why not.
pub(crate) fn inspect(input: &[u8]) -> Result<u64, Refusal> {
    let mut guard = Guard::default();
    match guard.inspect(input) {
        Ok(_) => Ok(guard.requests()),
        Err(refused) => Err(refused.refusal),
    }
}

/// A GET with these lines added to its head.
pub(crate) fn with_fields(lines: &str) -> Result<u64, Refusal> {
    inspect(format!("GET /path HTTP/1.1\r\nHost: shop\r\n{lines}\r\n").as_bytes())
}

/// A chunked POST with this body.
pub(crate) fn with_chunks(body: &str) -> Result<u64, Refusal> {
    let head = "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n";
    inspect(format!("{head}{body}").as_bytes())
}

/// A request with this request line.
pub(crate) fn with_request_line(line: &str) -> Result<u64, Refusal> {
    inspect(format!("{line}\r\nHost: shop:8080\r\n\r\n").as_bytes())
}
