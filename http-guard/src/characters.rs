//! The character sets that the grammar of a head is made of.

/// Whether a method, a field's name or a chunk extension may hold it (`tchar`, RFC 9110
/// section 5.6.2).
pub(crate) fn is_token_char(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether a host's name may hold it (`reg-name`, RFC 3986 section 3.2.2). The comma is
/// missing: it is where two Host fields were joined to one.
pub(crate) fn is_host_char(byte: u8) -> bool {
    HOST[usize::from(byte)]
}

/// Whether a target that holds it is sent on to a server percent-encoded: marks that no URI has
/// (RFC 3986 section 2), as far as parsers of URIs refuse them, and whatever is not ASCII.
pub(crate) fn is_encoded_in_targets(byte: u8) -> bool {
    byte >= 0x80 || matches!(byte, b'"' | b'<' | b'>' | b'`')
}

/// Whether it is the white space that a line may hold (SP and HTAB).
pub(crate) fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Takes optional white space away from both ends (`OWS`, RFC 9110 section 5.6.3).
pub(crate) fn trim_whitespace(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");
const HOST: [bool; 256] = alphanumeric_and(b"-._~%!$&'()*+;=");

/// Letters and digits of ASCII, and these marks.
const fn alphanumeric_and(marks: &[u8]) -> [bool; 256] {
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
