//! Percent-encoding of parts of a URL.

/// A part of a query without its percent-encoding (RFC 3986 section 2.1); what encodes nothing
/// stays as it is.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..2).filter(|_| *first == b'%');
        match digits.and_then(escaped) {
            Some(byte) => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    let is_escape = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_escape.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_encodes_nothing_stays() {
        for (text, expected) in [
            ("%2Fa%20b", "/a b"),
            ("100%", "100%"),
            ("%zz%", "%zz%"),
            ("a+b", "a+b"),
            ("%+1", "%+1"),
        ] {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }
}
