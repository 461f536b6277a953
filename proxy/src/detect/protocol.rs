//! The protocol of a connection, told by its client's first bytes.

use std::time::Duration;

use tokio::time::timeout;
use weft_model::protocol::{Detected, detect};

use super::error::DetectError;
use super::prefixed::PrefixedStream;

/// Bytes that decide at the most; the model has decided long before.
const LONGEST: usize = 2048;

/// Waits for a client's first bytes and says what they are of. A client that ends before
/// they decide speaks nothing known. Cancel-safe.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn detect_protocol(stream: &mut PrefixedStream) -> Result<Detected, DetectError> {
    let detected = stream.read_until(LONGEST, detect).await?;
    Ok(detected.unwrap_or(Detected::Opaque))
}

/// The same, for as long as `silence`; `None` when nothing decides in that time.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn detect_protocol_within(
    stream: &mut PrefixedStream,
    silence: Duration,
) -> Result<Option<Detected>, DetectError> {
    match timeout(silence, detect_protocol(stream)).await {
        Ok(detected) => detected.map(Some),
        Err(_) => Ok(None),
    }
}
