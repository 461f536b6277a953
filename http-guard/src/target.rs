//! Targets with bytes that no URI may have (RFC 3986 section 2), and that clients send and
//! servers take all the same. The server behind a guard reads them percent-encoded, and is told
//! what they were.

use std::collections::VecDeque;

use crate::characters::is_encoded_in_targets;

/// Places that are kept room for from one read to the next.
const KEPT_PLACES: usize = 16;

/// Finds the bytes of request lines that are percent-encoded for the server, and keeps the
/// targets that have any.
#[derive(Debug, Default)]
pub(crate) struct TargetEncoder {
    /// The method of the line that has begun is complete.
    is_in_target: bool,
    /// The line's target has such bytes.
    is_encoded: bool,
    /// Places of such bytes in the last read.
    places: Vec<usize>,
    /// Numbers of requests and their targets, of which nobody was told yet.
    originals: VecDeque<(u64, Box<[u8]>)>,
}

impl TargetEncoder {
    /// Another read follows.
    pub(crate) fn begin_read(&mut self) {
        self.places.clear();
        self.places.shrink_to(KEPT_PLACES);
    }

    /// Looks at a part of a request line, which begins there in the read.
    pub(crate) fn look_at(&mut self, part: &[u8], start: usize) {
        let mut from = 0;
        if !self.is_in_target {
            let Some(space) = memchr::memchr(b' ', part) else {
                return;
            };
            (self.is_in_target, from) = (true, space);
        }
        for (at, byte) in part.iter().enumerate().skip(from) {
            if is_encoded_in_targets(*byte) {
                self.is_encoded = true;
                self.places.push(start + at);
            }
        }
    }

    /// The line is complete: the target of the request with that number, or an empty line.
    pub(crate) fn end_line(&mut self, request: u64, target: &[u8]) {
        self.is_in_target = false;
        if std::mem::take(&mut self.is_encoded) {
            self.originals.push_back((request, target.into()));
        }
    }

    /// Places in the last read of bytes that are to be encoded, in order.
    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }

    /// The targets that were found since, as they came.
    pub(crate) fn take_originals(&mut self) -> VecDeque<(u64, Box<[u8]>)> {
        std::mem::take(&mut self.originals)
    }
}

/// Bytes with those at these places percent-encoded.
pub(crate) fn encode_places(bytes: &[u8], places: &[usize]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes.len() + 2 * places.len());
    let mut start = 0;
    for place in places {
        let Some(byte) = bytes.get(*place) else { break };
        encoded.extend_from_slice(&bytes[start..*place]);
        push_encoded(&mut encoded, *byte);
        start = place + 1;
    }
    encoded.extend_from_slice(&bytes[start..]);
    encoded
}

/// A target as the server behind a guard reads it.
#[must_use]
pub fn encode_target(target: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(target.len());
    for byte in target {
        match is_encoded_in_targets(*byte) {
            true => push_encoded(&mut encoded, *byte),
            false => encoded.push(*byte),
        }
    }
    encoded
}

fn push_encoded(encoded: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |number: u8| DIGITS[usize::from(number & 0xf)];
    encoded.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_no_uri_has_are_encoded_and_no_others() {
        let encoded = encode_target(b"/a\"b<c>d`e?f=\"\xc3\xb6\xf6{}|\\^%25");
        assert_eq!(
            encoded.escape_ascii().to_string(),
            "/a%22b%3Cc%3Ed%60e?f=%22%C3%B6%F6{}|\\\\^%25"
        );
    }

    #[test]
    fn only_those_behind_the_method_are_found_wherever_reads_were_cut() {
        let line = b"A`B /a<b HTTP/1.1\r\n";
        for cut in 0..line.len() {
            let mut encoder = TargetEncoder::default();
            let mut encoded = Vec::new();
            for part in [&line[..cut], &line[cut..]] {
                encoder.begin_read();
                encoder.look_at(part, 0);
                encoded.extend(encode_places(part, encoder.places()));
            }
            assert_eq!(encoded, b"A`B /a%3Cb HTTP/1.1\r\n");
            encoder.end_line(7, b"/a<b");
            assert_eq!(encoder.take_originals(), [(7, b"/a<b"[..].into())]);
        }
    }
}
