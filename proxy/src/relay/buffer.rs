//! The buffer of one half: bounded, grown only while reads fill it, and given back
//! while nothing comes.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Size of the first buffer of a half, in bytes: enough for most requests.
const SMALLEST: usize = 8 * 1024;
/// Size of the largest, in bytes.
const LARGEST: usize = 64 * 1024;

/// The buffer of one half.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    /// The bytes that were read last, as far as nobody took them.
    pub(super) bytes: BytesMut,
    next_size: usize,
}

impl ReadBuffer {
    /// With these bytes in it.
    pub(super) fn new(bytes: BytesMut) -> Self {
        Self {
            bytes,
            next_size: SMALLEST,
        }
    }

    /// Bytes that it takes of memory.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reads once, in place of what is there; 0 at the end of `source`.
    pub(super) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        self.bytes.clear();
        self.bytes.reserve(self.next_size);
        let read = pin!(source.read_buf(&mut self.bytes)).poll(context);
        match &read {
            Poll::Ready(Ok(count)) => self.next_size = next_size(self.next_size, *count),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.bytes = BytesMut::new(),
        }
        read
    }
}

/// The size of the next buffer: doubled while reads fill it, halved while they leave
/// three quarters of it empty.
fn next_size(size: usize, filled: usize) -> usize {
    if filled >= size {
        (size * 2).min(LARGEST)
    } else if filled * 4 < size {
        (size / 2).max(SMALLEST)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sizes_stay_within_their_bounds(reads in prop::collection::vec(0usize..=1 << 20, 0..40)) {
            let mut size = SMALLEST;
            for read in reads {
                size = next_size(size, read.min(size));
                prop_assert!((SMALLEST..=LARGEST).contains(&size));
            }
        }
    }

    #[tokio::test]
    async fn a_buffer_is_held_only_while_bytes_come() {
        let (mut writer, mut source) = tokio::io::duplex(1024);
        let mut buffer = ReadBuffer::new(BytesMut::new());
        let mut fill = async || {
            let filled =
                std::future::poll_fn(|context| Poll::Ready(buffer.poll_fill(context, &mut source)))
                    .await;
            (filled.is_ready(), buffer.bytes.capacity())
        };
        assert_eq!(fill().await, (false, 0));
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"x")
            .await
            .unwrap();
        assert_eq!(fill().await, (true, SMALLEST));
        assert_eq!(fill().await, (false, 0));
    }
}
