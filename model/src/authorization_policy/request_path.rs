//! The paths that a server may read in one, in the form in which they are compared.

use std::borrow::Cow;

use crate::route::path::{escaped, is_plain, readings};

/// The paths that a server may read in one that is sent to it, at least one.
#[derive(Debug)]
pub(super) struct PathReadings<'a> {
    /// As it is sent.
    pub(super) first: Cow<'a, [u8]>,
    /// Others: without parameters, with `%2F` for a slash, and so on.
    pub(super) others: Vec<Vec<u8>>,
}

impl<'a> PathReadings<'a> {
    /// Those of a path.
    pub(super) fn new(path: &'a str) -> Self {
        if is_plain(path) {
            return Self {
                first: comparable(path.as_bytes()),
                others: Vec::new(),
            };
        }
        let mut all: Vec<Vec<u8>> = Vec::new();
        for reading in readings(path) {
            let reading = comparable(reading.as_bytes()).into_owned();
            if !all.contains(&reading) {
                all.push(reading);
            }
        }
        let mut all = all.into_iter();
        let first = all.next().map(Cow::Owned);
        Self {
            first: first.unwrap_or_else(|| comparable(path.as_bytes())),
            others: all.collect(),
        }
    }
}

/// A path with all characters decoded but `/`, `\`, `%` and NUL, whose encodings are in upper
/// case: a server takes `%40` for `@`, and two paths that differ stay two.
pub(super) fn comparable(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut parts = path.split(|byte| *byte == b'%');
    decoded.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        let byte = std::str::from_utf8(part.get(..2).unwrap_or_default()).ok();
        let rest = part.get(2..).unwrap_or_default();
        match byte.and_then(escaped) {
            Some(byte @ (b'/' | b'\\' | b'%' | 0)) => {
                decoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
                decoded.extend_from_slice(rest);
            }
            Some(byte) => {
                decoded.push(byte);
                decoded.extend_from_slice(rest);
            }
            None => {
                decoded.push(b'%');
                decoded.extend_from_slice(part);
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(path: &str) -> Vec<String> {
        let readings = PathReadings::new(path);
        let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
        let others = readings.others.iter().map(|path| text(path));
        std::iter::once(text(&readings.first))
            .chain(others)
            .collect()
    }

    #[test]
    fn what_a_server_may_decode_is_decoded_but_slashes_and_percent_signs() {
        for (path, expected) in [
            ("/cart", "/cart"),
            ("/%61%40b", "/a@b"),
            ("/caf%c3%A9", "/café"),
            ("/a%2f%5c%00", "/a%2F%5C%00"),
            ("/%2561", "/%2561"),
            ("/%zz%", "/%zz%"),
            ("", ""),
        ] {
            assert_eq!(comparable(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn a_path_is_read_in_every_way_that_a_server_may_read_it() {
        assert_eq!(all("/cart/1"), ["/cart/1"]);
        assert_eq!(all("/a.b"), ["/a.b"]);
        assert_eq!(all("/a;v=1/b"), ["/a;v=1/b", "/a/b"]);
        assert_eq!(all("/x/%2e%2e/a"), ["/x/../a", "/a"]);
        assert!(all("/x/..;/a").contains(&"/a".to_owned()));
        assert!(all("/x%2f..%2fa").contains(&"/a".to_owned()));
        assert!(all("/x\\..\\a").contains(&"/a".to_owned()));
        assert!(all("//a").contains(&"/a".to_owned()));
        assert_eq!(all("*"), ["*"]);
    }

    proptest! {
        #[test]
        fn what_is_comparable_stays_so(path in "/[a%2fF5cC4100;.@]{0,12}") {
            // Only what encodes nothing may become an encoding, and no path has that.
            let is_well_formed = !path.split('%').skip(1).any(|part| escaped(part).is_none());
            prop_assume!(is_well_formed);
            let once = comparable(path.as_bytes()).into_owned();
            prop_assert_eq!(comparable(&once).into_owned(), once);
        }
    }
}
