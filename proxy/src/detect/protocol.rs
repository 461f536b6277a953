//! The protocol of a connection, told by its client's first bytes.

use std::time::Duration;

use tokio::time::timeout;
use weft_model::detect::protocol::{DetectedProtocol, detect_protocol};

use super::error::DetectError;
use super::prefixed::PrefixedStream;

/// Bytes that decide at the most; the model has decided long before.
const LONGEST: usize = 2048;

/// Waits for a client's first bytes and says what they are of. A client that ends before
/// they decide speaks nothing known. Cancel-safe.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn read_protocol(
    stream: &mut PrefixedStream,
) -> Result<DetectedProtocol, DetectError> {
    let detected = stream.read_until(LONGEST, detect_protocol).await?;
    Ok(detected.unwrap_or(DetectedProtocol::Opaque))
}

/// The same, for as long as `silence`; `None` when nothing decides in that time.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn read_protocol_within(
    stream: &mut PrefixedStream,
    silence: Duration,
) -> Result<Option<DetectedProtocol>, DetectError> {
    match timeout(silence, read_protocol(stream)).await {
        Ok(detected) => detected.map(Some),
        Err(_) => Ok(None),
    }
}
