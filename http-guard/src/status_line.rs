//! The status of the response to a refused head.
//!
//! The server writes that response, as it knows when the responses before it are written.
//! It finds no request, so the status is always 400; where another one is right, its line
//! is exchanged on the way.

use http::StatusCode;
use memchr::memmem;

/// How servers begin to answer what is no request.
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\n";

/// A status line that stands in for the server's last one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StatusLine {
    /// What is left of it to write.
    rest: &'static [u8],
}

/// What is to be written next of some bytes of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next<'a> {
    /// These bytes, of the server.
    Write(&'a [u8]),
    /// The whole of this line, in place of so many bytes of the server.
    Exchange(&'static [u8], usize),
}

impl StatusLine {
    /// The line that is to be exchanged for 400's, if it is.
    pub(crate) fn instead_of_400(status: StatusCode) -> Option<Self> {
        let rest: &[u8] = match status {
            StatusCode::REQUEST_TIMEOUT => b"HTTP/1.1 408 Request Timeout\r\n",
            StatusCode::URI_TOO_LONG => b"HTTP/1.1 414 URI Too Long\r\n",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            }
            _ => return None,
        };
        Some(Self { rest })
    }

    /// Looks for the line in `bytes`, the last ones that the server has to write. They may
    /// begin with responses to earlier requests, and those may look like the one that is
    /// meant: it is the last.
    pub(crate) fn next<'a>(&self, bytes: &'a [u8]) -> Next<'a> {
        match memmem::rfind(bytes, BAD_REQUEST) {
            Some(0) => Next::Exchange(self.rest, BAD_REQUEST.len()),
            Some(at) => Next::Write(&bytes[..at]),
            None => Next::Write(bytes),
        }
    }

    /// So many bytes of the line were written.
    pub(crate) fn advance(&mut self, written: usize) {
        self.rest = &self.rest[written..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 26\r\n\r\n\
        HTTP/1.1 400 Bad Request\r\n";
    const SERVERS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";

    #[test]
    fn only_the_last_line_is_exchanged() {
        let line = StatusLine::instead_of_400(StatusCode::URI_TOO_LONG).unwrap();
        let both = [OWN, SERVERS].concat();
        assert_eq!(line.next(&both), Next::Write(OWN));
        assert_eq!(
            line.next(SERVERS),
            Next::Exchange(b"HTTP/1.1 414 URI Too Long\r\n", BAD_REQUEST.len())
        );
        let rest = &SERVERS[BAD_REQUEST.len()..];
        assert_eq!(line.next(rest), Next::Write(rest));
    }

    #[test]
    fn a_line_is_written_piece_by_piece() {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let mut line = StatusLine::instead_of_400(status).unwrap();
        line.advance(9);
        let rest = b"431 Request Header Fields Too Large\r\n";
        assert_eq!(line.next(SERVERS), Next::Exchange(rest, BAD_REQUEST.len()));
    }

    #[test]
    fn a_status_of_400_stays() {
        assert_eq!(StatusLine::instead_of_400(StatusCode::BAD_REQUEST), None);
    }
}
