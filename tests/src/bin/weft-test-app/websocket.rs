//! WebSocket (RFC 6455), as far as tests need it: the handshake, and frames without
//! extensions. The server sends every message back; the client checks that it does.

mod accepted;
mod client;
mod frame;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use accepted::accepted;
pub(crate) use client::{Arguments, run};
use frame::{Frame, Opcode};

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
