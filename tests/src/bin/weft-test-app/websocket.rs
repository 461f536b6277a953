//! WebSocket (RFC 6455), as far as tests need it: the handshake, and frames without
//! extensions. The server sends every message back; the client checks that it does.

mod client;
mod frame;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

pub(crate) use client::{Arguments, run};
use frame::{Frame, Opcode};

/// What the key is joined with before it is hashed (section 1.3).
const ACCEPT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// A handshake that is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadHandshake {
    /// No key.
    #[error("the WebSocket handshake has no sec-websocket-key")]
    NoKey,
    /// `connection` doesn't name the upgrade.
    #[error("the WebSocket handshake has no `connection: upgrade`")]
    NoConnection,
}

/// Whether a request asks for WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The answer to a handshake.
pub(crate) fn accept(headers: &HeaderMap, name: &str) -> Result<Response<()>, BadHandshake> {
    let connection = headers
        .get(header::CONNECTION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    if !connection
        .to_ascii_lowercase()
        .windows(7)
        .any(|part| part == b"upgrade")
    {
        return Err(BadHandshake::NoConnection);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or(BadHandshake::NoKey)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::UPGRADE, WEBSOCKET);
    fields.insert(header::CONNECTION, UPGRADE);
    if let Ok(accepted) = accepted(key.as_bytes()).try_into() {
        fields.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    if let Ok(name) = name.parse() {
        fields.insert("x-test-server", name);
    }
    Ok(response)
}

/// What a server answers to a key (section 4.2.2).
fn accepted(key: &[u8]) -> String {
    let hash = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        &[key, ACCEPT.as_bytes()].concat(),
    );
    STANDARD.encode(hash)
}

/// Sends back every message, answers pings, and closes when asked.
pub(crate) async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let frame = Frame::read(&mut stream).await?;
        let (opcode, last) = match frame.opcode {
            Opcode::Ping => (Opcode::Pong, false),
            Opcode::Pong => continue,
            Opcode::Close => (Opcode::Close, true),
            other => (other, false),
        };
        Frame { opcode, ..frame }
            .write(stream.get_mut(), None)
            .await?;
        if last {
            return stream.get_mut().shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(
            accepted(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
