//! The protocol of a connection, told by its client's first bytes.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weft_model::detect::protocol::{DetectedProtocol, detect_protocol};

use super::error::DetectError;
use super::prefixed::PrefixedStream;

/// Bytes that decide at the most; the model has decided long before.
const LONGEST: usize = 2048;
/// Bytes of the head of an HTTP/2 frame.
pub(crate) const HTTP2_FRAME_HEADER: usize = 9;

/// Waits for a client's first bytes and says what they are of; `None` for a client that ends
/// without one. One that ends before they decide speaks nothing known. They may take that long
/// from the first one on, before which a client may be silent. Cancel-safe.
///
/// # Errors
/// When the connection breaks, or the client doesn't go on.
pub(crate) async fn read_protocol(
    stream: &mut PrefixedStream,
    head_time: Option<Duration>,
) -> Result<Option<DetectedProtocol>, DetectError> {
    let has_begun = |bytes: &[u8]| (!bytes.is_empty()).then_some(());
    stream.read_until(LONGEST, has_begun).await?;
    let began = stream.began().unwrap_or_else(Instant::now);
    let deadline = head_time.and_then(|time| began.checked_add(time));
    let detecting = stream.read_until(LONGEST, detect_protocol);
    let detected = match deadline {
        Some(deadline) => timeout_at(deadline, detecting)
            .await
            .map_err(|_| DetectError::HeadTimeout)??,
        None => detecting.await?,
    };
    let has_spoken = !stream.prefix().is_empty();
    Ok(detected.or(has_spoken.then_some(DetectedProtocol::Opaque)))
}

/// The first bytes of a server are those of a SETTINGS frame of the connection (RFC 9113
/// sections 4.1 and 6.5), as far as they are there: it may send them ahead of the client's
/// preface (section 3.4), and waits for a request all the same.
pub(crate) fn begins_http2(first: &[u8]) -> bool {
    // Length, then type, then flags, then the stream's number; what is no acknowledgement.
    let mut expected = first.iter().enumerate().skip(3);
    !first.is_empty()
        && first.first() == Some(&0)
        && expected.all(|(index, byte)| match index {
            3 => *byte == 4,
            _ => *byte == 0,
        })
}

#[cfg(test)]
mod tests {
    use super::begins_http2;

    #[test]
    fn settings_of_http2_are_told_from_a_greeting() {
        for settings in [
            &[0, 0, 18, 4, 0, 0, 0, 0, 0][..],
            &[0, 0, 0, 4, 0, 0, 0, 0, 0],
            &[0, 0, 18],
        ] {
            assert!(begins_http2(settings), "{settings:?}");
        }
        for other in [
            &b""[..],
            b"220 ready",
            b"HTTP/1.1 408 Request Timeout",
            &[0, 0, 18, 7, 0, 0, 0, 0, 0],
            &[0, 0, 18, 4, 0, 0, 0, 0, 1],
        ] {
            assert!(!begins_http2(other), "{other:?}");
        }
    }
}
