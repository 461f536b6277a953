//! The ClientHello of a connection whose client has to speak TLS.

use std::time::Duration;

use tokio::time::timeout;
use weft_model::detect::client_hello::{ClientHello, MAX_CLIENT_HELLO_LENGTH, parse};

use super::error::DetectError;
use super::prefixed::PrefixedStream;

/// Waits for a client's ClientHello, for as long as `limit`.
///
/// # Errors
/// When something else comes, or nothing in time.
pub(crate) async fn read_client_hello(
    stream: &mut PrefixedStream,
    limit: Duration,
) -> Result<ClientHello, DetectError> {
    let reading = stream.read_until(MAX_CLIENT_HELLO_LENGTH, |bytes| parse(bytes).transpose());
    let parsed = timeout(limit, reading)
        .await
        .map_err(|_| DetectError::Timeout)??;
    Ok(parsed.ok_or(DetectError::Ended)??)
}
