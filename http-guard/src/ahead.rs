//! What a client sends, or that it ends, while the server reads nothing because a response is
//! under way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// How a client's side of a connection has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientEnd {
    /// It sends nothing more. It may have gone, or wait for its response (RFC 9112 section
    /// 9.6): nobody can tell before bytes are written to it.
    Finished,
    /// The connection broke: nobody waits for the response.
    Broken,
}

/// Bytes that were read ahead of the server, and are inspected when it reads on.
#[derive(Debug)]
pub(crate) struct UnreadBytes {
    bytes: BytesMut,
    /// How many there are at most: behind more of them the client's end isn't seen.
    limit: usize,
}

impl UnreadBytes {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            limit,
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads what has arrived; ready at the client's end.
    pub(crate) fn poll_end<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<ClientEnd> {
        while self.bytes.len() < self.limit {
            let mut space = [0; 512];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(ClientEnd::Broken),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Poll::Ready(ClientEnd::Finished);
                }
                Poll::Ready(Ok(())) => self.bytes.extend_from_slice(buffer.filled()),
            }
        }
        Poll::Pending
    }

    /// Reads into the server's buffer: what is here already, else what comes.
    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Pin::new(stream).poll_read(context, buffer);
        }
        let part = self.bytes.len().min(buffer.remaining());
        buffer.put_slice(&self.bytes.split_to(part));
        Poll::Ready(Ok(()))
    }
}
