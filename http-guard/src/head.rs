//! A request's head, line by line: only what decides where the request ends, whom it is
//! for, and whether another protocol may follow it.

use crate::authority::Authority;
use crate::field::{FieldLine, FieldName};
use crate::framing::{BodyLength, FramingFields};
use crate::refusal::Refusal;
use crate::request_line::{ImpliedPort, RequestLine};

/// What is known of a head so far.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    is_connect: bool,
    is_http10: bool,
    has_host: bool,
    has_upgrade: bool,
    framing: FramingFields,
    target: Target,
}

/// Whom the request target names. Its text is kept, as its line is gone when Host comes.
#[derive(Debug, Default)]
struct Target {
    /// Host and port; empty when the target names nobody.
    authority: Vec<u8>,
    implied_port: Option<ImpliedPort>,
}

impl RequestHead {
    /// Begins with a request line, and forgets the head before it.
    pub(crate) fn begin(&mut self, line: &RequestLine<'_>) {
        let mut target = std::mem::take(&mut self.target);
        target.set(line);
        *self = Self {
            is_connect: line.is_connect,
            is_http10: line.is_http10,
            target,
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
            FieldName::Other => Ok(()),
        }
    }

    fn read_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.has_host {
            return Err(Refusal::HostRepeated);
        }
        self.has_host = true;
        let host = Authority::parse(value).ok_or(Refusal::Host)?;
        match self.target.is_same_as(&host) {
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

    /// Whether it asks for a tunnel.
    pub(crate) fn is_connect(&self) -> bool {
        self.is_connect
    }
}

impl Target {
    fn set(&mut self, line: &RequestLine<'_>) {
        self.authority.clear();
        self.implied_port = None;
        if let Some(target) = line.target {
            self.authority.extend_from_slice(target.text);
            self.implied_port = Some(target.implied_port);
        }
    }

    /// Whether Host names whom the target names, if it names anybody.
    fn is_same_as(&self, host: &Authority<'_>) -> bool {
        let (Some(implied), Some(target)) = (self.implied_port, Authority::parse(&self.authority))
        else {
            return true;
        };
        let implied = match implied {
            ImpliedPort::OfScheme(port) => port,
            ImpliedPort::OfTarget => target.port.unwrap_or_default(),
        };
        target.is_same_as(host, implied)
    }
}

/// Checks a line of the trailer section: none that says where the request ends or whom it
/// is for may come late (RFC 9110 section 6.5.1).
pub(crate) fn check_trailer_line(line: &[u8]) -> Result<(), Refusal> {
    match FieldLine::parse(line)?.name {
        FieldName::Host | FieldName::ContentLength | FieldName::TransferEncoding => {
            Err(Refusal::TrailerField)
        }
        FieldName::Upgrade | FieldName::Other => Ok(()),
    }
}
