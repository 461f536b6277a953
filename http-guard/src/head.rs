//! A request's head, line by line: only what decides where the request ends, whom it is
//! for, and whether another protocol may follow it.

use crate::authority::Authority;
use crate::field::{FieldLine, FieldName};
use crate::framing::{BodyLength, FramingFields};
use crate::refusal::Refusal;
use crate::request_line::RequestLine;

/// What is known of a head so far.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    is_connect: bool,
    is_http10: bool,
    has_host: bool,
    has_upgrade: bool,
    has_expect: bool,
    framing: FramingFields,
    tunnel: Tunnel,
}

/// Where a tunnel shall lead: host and port, empty when none is asked for. The text is kept,
/// as its line is gone when Host comes.
#[derive(Debug, Default)]
struct Tunnel(Vec<u8>);

impl RequestHead {
    /// Begins with a request line, and forgets the head before it.
    pub(crate) fn begin(&mut self, line: &RequestLine<'_>) {
        let mut tunnel = std::mem::take(&mut self.tunnel);
        tunnel.set(line);
        *self = Self {
            is_connect: line.tunnel.is_some(),
            is_http10: line.is_http10,
            tunnel,
            ..Self::default()
        };
    }

    /// Reads a line of the header section.
    pub(crate) fn read_field_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let FieldLine { name, value } = FieldLine::parse(line)?;
        match name {
            FieldName::Host => self.read_host(value),
            FieldName::ContentLength => self.framing.read_content_length(value),
            FieldName::TransferEncoding => self.framing.read_transfer_encoding(value),
            FieldName::Upgrade => {
                self.has_upgrade = true;
                Ok(())
            }
            FieldName::Expect => {
                self.has_expect = value.eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            FieldName::Other => Ok(()),
        }
    }

    fn read_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.has_host {
            return Err(Refusal::HostRepeated);
        }
        self.has_host = true;
        let host = Authority::parse(value).ok_or(Refusal::Host)?;
        match self.tunnel.is_same_as(&host) {
            true => Ok(()),
            false => Err(Refusal::HostMismatch),
        }
    }

    /// Ends with the empty line: says where the request's body ends.
    pub(crate) fn end(&self) -> Result<BodyLength, Refusal> {
        if !self.has_host && !self.is_http10 {
            return Err(Refusal::HostMissing);
        }
        let body = self.framing.body_length(self.is_http10)?;
        if self.is_connect && body != BodyLength::Empty {
            return Err(Refusal::ConnectBody);
        }
        Ok(body)
    }

    /// Whether bytes of another protocol follow the request, if it is granted: a tunnel, or
    /// what Upgrade names, which HTTP/1.0 doesn't know (RFC 9110 section 7.8).
    pub(crate) fn asks_for_upgrade(&self) -> bool {
        self.is_connect || (self.has_upgrade && !self.is_http10)
    }

    /// Whether its body may wait for a response of 100 (RFC 9110 section 10.1.1), which
    /// HTTP/1.0 doesn't know.
    pub(crate) fn expects_continue(&self) -> bool {
        self.has_expect && !self.is_http10
    }

    /// Whether it asks for a tunnel.
    pub(crate) fn is_connect(&self) -> bool {
        self.is_connect
    }
}

impl Tunnel {
    fn set(&mut self, line: &RequestLine<'_>) {
        self.0.clear();
        self.0.extend_from_slice(line.tunnel.unwrap_or_default());
    }

    /// Whether Host names the same, if a tunnel is asked for; it may leave the port away.
    fn is_same_as(&self, host: &Authority<'_>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        Authority::parse(&self.0).is_none_or(|target| {
            let port = target.port.unwrap_or_default();
            target.is_same_as(host, port)
        })
    }
}

/// Checks a line of the trailer section: none that says where the request ends or whom it
/// is for may come late (RFC 9110 section 6.5.1).
pub(crate) fn check_trailer_line(line: &[u8]) -> Result<(), Refusal> {
    match FieldLine::parse(line)?.name {
        FieldName::Host | FieldName::ContentLength | FieldName::TransferEncoding => {
            Err(Refusal::TrailerField)
        }
        FieldName::Upgrade | FieldName::Expect | FieldName::Other => Ok(()),
    }
}
