//! A request's head, line by line: only what decides where the request ends and whom it
//! is for.

use crate::refusal::Refusal;

/// Where a request's body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// Largest length that hyper can tell from its own marks.
const LARGEST_LENGTH: u64 = u64::MAX - 2;

/// What is known of a head so far.
#[derive(Debug, Default)]
pub(crate) struct Head {
    http10: bool,
    connect: bool,
    upgrade: bool,
    host: bool,
    chunked: bool,
    length: Option<u64>,
    /// The target's authority, when the target has absolute form.
    authority: Vec<u8>,
    /// The port that the target's scheme implies.
    implied_port: &'static [u8],
}

impl Head {
    /// Reads a request line, and forgets the head before it.
    pub(crate) fn begin(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut authority = std::mem::take(&mut self.authority);
        authority.clear();
        *self = Self {
            authority,
            ..Self::default()
        };
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::RequestLine);
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) || target.is_empty() {
            return Err(Refusal::RequestLine);
        }
        self.http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ if version.starts_with(b"HTTP/") => return Err(Refusal::Version),
            _ => return Err(Refusal::RequestLine),
        };
        self.connect = method == b"CONNECT";
        self.target(method, target)
    }

    fn target(&mut self, method: &[u8], target: &[u8]) -> Result<(), Refusal> {
        let bad = |byte: &u8| *byte <= b' ' || *byte == 0x7f || *byte == b'#';
        if target.iter().any(bad) {
            return Err(Refusal::Target);
        }
        match target {
            _ if self.connect => is_host(target).then_some(()).ok_or(Refusal::Target),
            [b'/', ..] => Ok(()),
            b"*" if method == b"OPTIONS" => Ok(()),
            _ => self.absolute(target).ok_or(Refusal::Target),
        }
    }

    /// Absolute form: the authority is kept, to compare Host with it.
    fn absolute(&mut self, target: &[u8]) -> Option<()> {
        let after = |scheme: &[u8]| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        };
        let (rest, port) = after(b"http://")
            .map(|rest| (rest, &b"80"[..]))
            .or_else(|| Some((after(b"https://")?, &b"443"[..])))?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
        let authority = &rest[..end.unwrap_or(rest.len())];
        if authority.is_empty() || !is_host(authority) {
            return None;
        }
        self.authority.extend_from_slice(authority);
        self.implied_port = port;
        Some(())
    }

    /// Reads a header field.
    pub(crate) fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (name, value) = split_field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.host {
            return Err(Refusal::HostRepeated);
        }
        self.host = true;
        if !is_host(value) {
            return Err(Refusal::HostInvalid);
        }
        let target = without_port(&self.authority, self.implied_port);
        if !target.is_empty()
            && !target.eq_ignore_ascii_case(without_port(value, self.implied_port))
        {
            return Err(Refusal::HostDiffers);
        }
        Ok(())
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::LengthRepeated);
        }
        let digit = |total: u64, byte: &u8| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            total.checked_mul(10)?.checked_add(digit)
        };
        let length = value.iter().try_fold(0, digit);
        let length = length.filter(|length| !value.is_empty() && *length <= LARGEST_LENGTH);
        self.length = Some(length.ok_or(Refusal::LengthInvalid)?);
        Ok(())
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Encoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// The head is complete: where its body ends.
    pub(crate) fn end(&self) -> Result<Framing, Refusal> {
        if !self.host && !self.http10 {
            return Err(Refusal::HostMissing);
        }
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Refusal::LengthAndEncoding),
            (true, None) if self.http10 => return Err(Refusal::EncodingInHttp10),
            (true, None) => Framing::Chunked,
            (false, None | Some(0)) => Framing::Empty,
            (false, Some(length)) => Framing::Length(length),
        };
        if self.connect && framing != Framing::Empty {
            return Err(Refusal::ConnectBody);
        }
        Ok(framing)
    }

    /// Whether the bytes behind the request may be of another protocol.
    pub(crate) fn asks_for_upgrade(&self) -> bool {
        self.connect || (self.upgrade && !self.http10)
    }

    /// Whether it asks for a tunnel.
    pub(crate) fn is_connect(&self) -> bool {
        self.connect
    }
}

/// Checks a trailer field.
pub(crate) fn trailer(line: &[u8]) -> Result<(), Refusal> {
    let (name, _) = split_field(line)?;
    let forbidden: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
    if forbidden
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other))
    {
        return Err(Refusal::TrailerField);
    }
    Ok(())
}

/// Name and value, without the white space around the value.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let end = line.iter().position(|byte| !is_token(*byte));
    match end.map(|end| (end, line[end])) {
        Some((0, b' ' | b'\t')) => Err(Refusal::ObsFold),
        Some((1.., b' ' | b'\t')) if only_spaces_before_colon(line) => {
            Err(Refusal::SpaceBeforeColon)
        }
        Some((end @ 1.., b':')) => Ok((&line[..end], trim(&line[end + 1..]))),
        _ => Err(Refusal::FieldName),
    }
}

fn only_spaces_before_colon(line: &[u8]) -> bool {
    let mut rest = line.iter().skip_while(|byte| is_token(**byte));
    rest.find(|byte| !matches!(byte, b' ' | b'\t')) == Some(&b':')
}

/// Without optional white space (RFC 9110 section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A host with its port taken away, when that is the one that the scheme implies.
fn without_port<'a>(host: &'a [u8], port: &[u8]) -> &'a [u8] {
    let rest = host.strip_suffix(port).filter(|_| !port.is_empty());
    let rest = rest.and_then(|rest| rest.strip_suffix(b":"));
    rest.unwrap_or(host)
}

/// Characters of a host and port (RFC 3986 section 3.2); the empty host is one.
fn is_host(text: &[u8]) -> bool {
    text.iter().all(|byte| HOST[usize::from(*byte)])
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

const HOST: [bool; 256] = letters_and(b"-._~%!$&'()*+;=:[]");
const TOKEN: [bool; 256] = letters_and(b"!#$%&'*+-.^_`|~");

/// Letters and digits of ASCII, and these.
const fn letters_and(marks: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
}
