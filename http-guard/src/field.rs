//! Field lines of header and trailer sections: `name ":" OWS value OWS` (RFC 9112
//! section 5).

use crate::characters::{is_token_char, is_whitespace, trim_whitespace};
use crate::refusal::Refusal;

/// A field line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FieldLine<'a> {
    /// Which field it is.
    pub(crate) name: FieldName,
    /// Its value, without the white space around it.
    pub(crate) value: &'a [u8],
}

/// The fields that say where a request ends, whom it is for, and what follows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FieldName {
    /// Host.
    Host,
    /// Content-Length.
    ContentLength,
    /// Transfer-Encoding.
    TransferEncoding,
    /// Upgrade.
    Upgrade,
    /// Expect.
    Expect,
    /// Any other.
    Other,
}

impl<'a> FieldLine<'a> {
    /// Reads a line without its CRLF. The name is a token and the colon follows it at once.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        let end = line.iter().position(|byte| !is_token_char(*byte));
        match end.map(|end| (end, line[end])) {
            Some((0, b' ' | b'\t')) => Err(Refusal::ObsFold),
            Some((end @ 1.., b' ' | b'\t')) if is_whitespace_before_colon(&line[end..]) => {
                Err(Refusal::WhitespaceBeforeColon)
            }
            Some((end @ 1.., b':')) => Ok(Self {
                name: FieldName::parse(&line[..end])?,
                value: trim_whitespace(&line[end + 1..]),
            }),
            _ => Err(Refusal::FieldName),
        }
    }
}

impl FieldName {
    fn parse(name: &[u8]) -> Result<Self, Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => Ok(Self::Host),
            6 if name.eq_ignore_ascii_case(b"expect") => Ok(Self::Expect),
            7 if name.eq_ignore_ascii_case(b"upgrade") => Ok(Self::Upgrade),
            14 => Self::parse_hyphenated(name, b"content-length", Self::ContentLength),
            17 => Self::parse_hyphenated(name, b"transfer-encoding", Self::TransferEncoding),
            _ => Ok(Self::Other),
        }
    }

    /// Tells a framing field, `known`, from others of the same length. One that has another
    /// character in place of the hyphen is the same field to whoever makes variables of
    /// names, as CGI does (RFC 3875 section 4.1.18).
    fn parse_hyphenated(name: &[u8], known: &[u8], field: Self) -> Result<Self, Refusal> {
        let is_same = |(one, other): (&u8, &u8)| one.eq_ignore_ascii_case(other);
        let mut differing = name.iter().zip(known).filter(|pair| !is_same(*pair));
        match (differing.next(), differing.next()) {
            (None, _) => Ok(field),
            (Some((other, b'-')), None) if !other.is_ascii_alphanumeric() => {
                Err(Refusal::FramingFieldLookalike)
            }
            _ => Ok(Self::Other),
        }
    }
}

/// Whether the rest of a line, behind the name, is white space up to a colon.
fn is_whitespace_before_colon(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !is_whitespace(**byte)) == Some(&b':')
}
