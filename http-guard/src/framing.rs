//! The length of a request's body: what Content-Length and Transfer-Encoding say of it
//! together (RFC 9112 section 6.3).

use crate::refusal::Refusal;

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyLength {
    /// There is none.
    Empty,
    /// After so many bytes.
    Bytes(u64),
    /// With the trailer section behind the last chunk.
    Chunked,
}

/// Longest body that servers of ours tell from marks of their own.
const LONGEST_BODY: u64 = u64::MAX - 2;

/// The framing fields of one head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FramingFields {
    content_length: Option<u64>,
    is_chunked: bool,
}

impl FramingFields {
    /// Reads a Content-Length: one number of decimal digits, once. RFC 9112 would let equal
    /// ones pass as one; who repeats it has not made up their mind.
    pub(crate) fn read_content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.content_length.is_some() {
            return Err(Refusal::ContentLengthRepeated);
        }
        let length = parse_decimal(value).filter(|length| *length <= LONGEST_BODY);
        self.content_length = Some(length.ok_or(Refusal::ContentLength)?);
        Ok(())
    }

    /// Reads a Transfer-Encoding: the one coding that frames a body, alone and once.
    pub(crate) fn read_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::TransferEncoding);
        }
        self.is_chunked = true;
        Ok(())
    }

    /// Says where the body ends, once the head is complete.
    pub(crate) fn body_length(self, is_http10: bool) -> Result<BodyLength, Refusal> {
        match (self.is_chunked, self.content_length) {
            (true, Some(_)) => Err(Refusal::ContentLengthWithTransferEncoding),
            (true, None) if is_http10 => Err(Refusal::TransferEncodingInHttp10),
            (true, None) => Ok(BodyLength::Chunked),
            (false, None | Some(0)) => Ok(BodyLength::Empty),
            (false, Some(length)) => Ok(BodyLength::Bytes(length)),
        }
    }
}

/// A number of decimal digits, and nothing else.
fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
