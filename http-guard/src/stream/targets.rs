//! Targets that the server reads percent-encoded, of which there are more bytes then.

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::GuardedStream;
use crate::target::encode_places;

impl<S: AsyncRead + Unpin> GuardedStream<S> {
    /// Percent-encodes what no parser of URIs takes in the targets that were read behind the first
    /// `before` bytes of `buffer`.
    pub(super) fn encode_targets(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let targets = self.guard.targets();
        let originals = targets.take_originals();
        if !originals.is_empty() {
            self.handle.add_original_targets(originals);
        }
        if targets.places().is_empty() {
            return;
        }
        let encoded = encode_places(&buffer.filled()[before..], targets.places());
        buffer.set_filled(before);
        let (now, later) = encoded.split_at(encoded.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.passed.extend_from_slice(later);
    }

    /// Gives the server bytes that its last buffer had no room for; whether there were any.
    pub(super) fn give_passed(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.passed.is_empty() {
            return false;
        }
        let part = self.passed.len().min(buffer.remaining());
        buffer.put_slice(&self.passed.split_to(part));
        if self.passed.is_empty() {
            self.passed = BytesMut::new();
        }
        self.note_pause();
        true
    }
}
