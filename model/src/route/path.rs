//! One path for all the ways to write it: what rules compare, so that none is walked around.
//!
//! A server may read a path otherwise than the rules do: resolve `..`, take two slashes for one,
//! `%2F` for a slash. Either all of these readings lead to the same rule, or what is compared is
//! what is sent on.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The form in which the paths of requests are compared with routes and sent on.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum PathNormalization {
    /// Sent on as it came. A request is refused when one reading of its path leads to another
    /// rule than the next.
    #[default]
    Strict,
    /// Compared and sent on as it came, but for characters that need no encoding, which are
    /// compared decoded.
    None,
    /// Compared and sent on with `.` and `..` resolved, characters decoded that need no encoding
    /// (RFC 3986 section 6.2.2), and `\` for `/`.
    Base,
    /// The same, with several slashes for one.
    MergeSlashes,
    /// The same, with `%2F` and `%5C` for a slash.
    DecodeAndMergeSlashes,
}

impl PathNormalization {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Strict,
        Self::None,
        Self::Base,
        Self::MergeSlashes,
        Self::DecodeAndMergeSlashes,
    ];

    /// Its name in MeshConfig.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::None => "None",
            Self::Base => "Base",
            Self::MergeSlashes => "MergeSlashes",
            Self::DecodeAndMergeSlashes => "DecodeAndMergeSlashes",
        }
    }

    /// The path that is sent on in place of one that came.
    ///
    /// # Errors
    /// When it holds a `%` that encodes nothing, or NUL: a server may decode it to anything.
    pub fn forwarded_path(self, path: &str) -> Result<Cow<'_, str>, UnnormalizablePath> {
        let Some(reading) = self.forwarded_reading() else {
            return Ok(Cow::Borrowed(path));
        };
        if has_malformed_escape(path) {
            return Err(UnnormalizablePath);
        }
        Ok(match is_plain(path) {
            true => Cow::Borrowed(path),
            false => read(path, reading),
        })
    }

    /// The paths that rules and limits compare of one that came, each once: every reading that a
    /// server may have of what is sent on as it came, else the one form that is sent on. Of a
    /// path that has no such form, the path itself.
    pub fn compared_paths(self, path: &str) -> Vec<Cow<'_, str>> {
        match self {
            Self::Strict => readings(path),
            Self::None => vec![decoded_path(path)],
            Self::Base | Self::MergeSlashes | Self::DecodeAndMergeSlashes => {
                vec![self.forwarded_path(path).unwrap_or(Cow::Borrowed(path))]
            }
        }
    }

    fn forwarded_reading(self) -> Option<Reading> {
        let base = Reading {
            slashes: Slashes::Backslash,
            resolves_dots: true,
            ..Reading::default()
        };
        let merging = Reading {
            merges_slashes: true,
            ..base
        };
        match self {
            Self::Strict | Self::None => None,
            Self::Base => Some(base),
            Self::MergeSlashes => Some(merging),
            Self::DecodeAndMergeSlashes => Some(Reading {
                slashes: Slashes::Encoded,
                ..merging
            }),
        }
    }
}

impl fmt::Display for PathNormalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no path normalization.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a path normalization; use `Strict`, `None`, `Base`, `MergeSlashes` or `DecodeAndMergeSlashes`"
)]
pub struct InvalidPathNormalization(String);

impl FromStr for PathNormalization {
    type Err = InvalidPathNormalization;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|known| known.as_str() == text);
        found.ok_or_else(|| InvalidPathNormalization(text.to_owned()))
    }
}

/// A path that has no normal form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the path holds a `%` that encodes nothing, or NUL")]
pub struct UnnormalizablePath;

/// The path in its shortest form: characters that need no encoding decoded, `.` and `..`
/// resolved, several slashes one. An encoded slash stays one, and so does the case of letters.
pub fn normalized_path(path: &str) -> Cow<'_, str> {
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    let reading = Reading {
        resolves_dots: true,
        merges_slashes: true,
        ..Reading::default()
    };
    read(path, reading)
}

/// The path as it came, but for characters that need no encoding.
pub(super) fn decoded_path(path: &str) -> Cow<'_, str> {
    match is_plain(path) {
        true => Cow::Borrowed(path),
        false => read(path, Reading::default()),
    }
}

/// A server's way to read a path. All of them decode what needs no encoding.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    slashes: Slashes,
    resolves_dots: bool,
    merges_slashes: bool,
    /// Parameters of a segment, `;` and what follows, are no part of it (RFC 3986 section 3.3).
    drops_parameters: bool,
    /// NUL ends the path.
    ends_at_nul: bool,
}

/// Slashes besides `/`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Slashes {
    #[default]
    Plain,
    /// `\`, too.
    Backslash,
    /// `\`, `%2F` and `%5C`, too.
    Encoded,
}

/// The readings of a path that servers have, each once; the first is the path as it came, but
/// for characters that need no encoding. One for a path that all read alike.
pub(crate) fn readings(path: &str) -> Vec<Cow<'_, str>> {
    if is_plain(path) {
        return vec![Cow::Borrowed(path)];
    }
    let mut readings: Vec<Cow<'_, str>> = Vec::new();
    let has = |text: &str| path.contains(text);
    let is_open = |applies: bool| [false, true].into_iter().take(1 + usize::from(applies));
    let slashes = [Slashes::Plain, Slashes::Backslash, Slashes::Encoded];
    let has_slashes = has("\\") || has("%2f") || has("%2F") || has("%5c") || has("%5C");
    for slashes in slashes.into_iter().take(if has_slashes { 3 } else { 1 }) {
        for ends_at_nul in is_open(has("%00")) {
            for drops_parameters in is_open(has(";")) {
                for resolves_dots in [false, true] {
                    for merges_slashes in [false, true] {
                        let reading = Reading {
                            slashes,
                            resolves_dots,
                            merges_slashes,
                            drops_parameters,
                            ends_at_nul,
                        };
                        let path = read(path, reading);
                        if !readings.contains(&path) {
                            readings.push(path);
                        }
                    }
                }
            }
        }
    }
    readings
}

/// Nothing in it is read in two ways.
pub(crate) fn is_plain(path: &str) -> bool {
    let odd = |byte: &u8| matches!(byte, b'%' | b'\\' | b';');
    let is_even = !path.bytes().any(|byte| odd(&byte));
    !path.starts_with('/') || (is_even && !path.contains("//") && !path.contains("/."))
}

fn has_malformed_escape(path: &str) -> bool {
    let mut parts = path.split('%').skip(1);
    parts.any(|part| escaped(part).is_none_or(|byte| byte == 0))
}

/// The byte that the two digits behind a `%` stand for.
pub(crate) fn escaped(part: &str) -> Option<u8> {
    let digits = part.get(..2)?;
    let is_escape = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_escape.then(|| u8::from_str_radix(digits, 16).ok())?
}

fn read(path: &str, reading: Reading) -> Cow<'_, str> {
    let decoded = decode(path, reading);
    let mut segments = Vec::new();
    let mut parts = decoded.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let segment = match reading.drops_parameters {
            true => part.split(';').next().unwrap_or_default(),
            false => part,
        };
        match segment {
            "." | ".." if reading.resolves_dots => {
                if segment == ".." {
                    segments.pop();
                }
                // Behind it is a folder.
                if is_last {
                    segments.push("");
                }
            }
            "" if reading.merges_slashes && !is_last => {}
            segment => segments.push(segment),
        }
    }
    let mut text = String::with_capacity(decoded.len());
    for segment in &segments {
        text.push('/');
        text.push_str(segment);
    }
    match text == path {
        true => Cow::Borrowed(path),
        false => Cow::Owned(text),
    }
}

/// Decodes letters, digits and the marks that mean nothing (RFC 3986 section 2.3), and what else
/// the reading takes for a slash or for the end.
fn decode(path: &str, reading: Reading) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        let (before, part) = rest.split_at(at);
        decoded.push_str(before);
        let (c, length) = match part.strip_prefix('%').map(escaped) {
            None if reading.slashes == Slashes::Plain => ('\\', 1),
            None => ('/', 1),
            Some(Some(b'/' | b'\\')) if reading.slashes == Slashes::Encoded => ('/', 3),
            Some(Some(0)) if reading.ends_at_nul => return decoded,
            Some(Some(byte)) if is_unreserved(byte) => (char::from(byte), 3),
            Some(_) => ('%', 1),
        };
        decoded.push(c);
        rest = &part[length..];
    }
    decoded.push_str(rest);
    decoded
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_shortest_form() {
        for (path, normalized) in [
            ("/admin/x", "/admin/x"),
            ("/x/../admin/x", "/admin/x"),
            ("//admin//x", "/admin/x"),
            ("/./admin/x", "/admin/x"),
            ("/%61dmin/x", "/admin/x"),
            ("/x/%2e%2E/admin/x", "/admin/x"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/", "/a/b/"),
            ("/a//", "/a/"),
            ("/a%2fb%20c%", "/a%2fb%20c%"),
            ("/.hidden/..a", "/.hidden/..a"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(normalized_path(path), normalized, "{path}");
        }
    }

    #[test]
    fn what_is_sent_on_is_what_is_compared() {
        use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None, Strict};
        for (path, normalization, expected) in [
            ("/a//b/../c%2Fd\\e", Strict, "/a//b/../c%2Fd\\e"),
            ("/a//b/../c%2Fd\\e", None, "/a//b/../c%2Fd\\e"),
            ("/a//b/../c%2Fd\\e", Base, "/a//c%2Fd/e"),
            ("/a//b/../c%2Fd\\e", MergeSlashes, "/a/c%2Fd/e"),
            ("/a//b/../c%2Fd\\e", DecodeAndMergeSlashes, "/a/c/d/e"),
            ("/a/%2e%2e%2Fb", DecodeAndMergeSlashes, "/b"),
            ("/a%5c..%5cb", DecodeAndMergeSlashes, "/b"),
            ("/a;x/b", DecodeAndMergeSlashes, "/a;x/b"),
            ("/%41%20b", Base, "/A%20b"),
        ] {
            let forwarded = normalization.forwarded_path(path);
            assert_eq!(forwarded.as_deref(), Ok(expected), "{path} {normalization}");
        }
        for path in ["/%", "/%2", "/%zz", "/%%34%31", "/a%00"] {
            assert_eq!(Base.forwarded_path(path), Err(UnnormalizablePath), "{path}");
            assert!(Strict.forwarded_path(path).is_ok());
        }
    }

    #[test]
    fn names_parse_as_they_print() {
        for normalization in PathNormalization::ALL {
            assert_eq!(normalization.to_string().parse(), Ok(normalization));
        }
        assert!("strict".parse::<PathNormalization>().is_err());
    }

    #[test]
    fn a_server_may_read_a_path_in_each_of_these_ways() {
        for (path, expected) in [
            ("/%61", &["/a"][..]),
            ("/a%20b", &["/a%20b"]),
            ("//a", &["//a", "/a"]),
            ("/b/../a", &["/b/../a", "/a"]),
            ("//a/../b", &["//a/../b", "/a/../b", "//b", "/b"]),
            ("/b%2Fa", &["/b%2Fa", "/b/a"]),
            ("/b\\a", &["/b\\a", "/b/a"]),
            ("/a;v=1/b", &["/a;v=1/b", "/a/b"]),
            ("/a%00.html", &["/a%00.html", "/a"]),
        ] {
            assert_eq!(readings(path), expected, "{path}");
        }
        let hidden = readings("/b/..;/a").into_iter().any(|path| path == "/a");
        assert!(hidden, "what some servers make of `..;`");
    }

    const ODD: &str = "/[a./%25ef2;\\\\0c]{0,20}";

    proptest! {
        #[test]
        fn a_normalized_path_begins_with_a_slash_and_climbs_nowhere(path in ODD) {
            let once = normalized_path(&path).into_owned();
            prop_assert!(once.starts_with('/'));
            let has_dots = once.split('/').any(|segment| matches!(segment, "." | ".."));
            prop_assert!(!has_dots, "{}", once);
        }

        #[test]
        fn what_was_sent_on_once_is_sent_on_as_it_is(path in ODD) {
            for normalization in PathNormalization::ALL {
                if let Ok(once) = normalization.forwarded_path(&path) {
                    let again = normalization.forwarded_path(&once);
                    prop_assert_eq!(again.as_deref(), Ok(&*once), "{}", normalization);
                }
            }
        }

        /// None of the readings is forgotten: whatever is sent on is one of them.
        #[test]
        fn every_form_that_is_sent_on_is_a_reading(path in ODD) {
            let readings = readings(&path);
            for normalization in PathNormalization::ALL {
                if let Ok(forwarded) = normalization.forwarded_path(&path) {
                    let forwarded = decode(&forwarded, Reading::default());
                    prop_assert!(readings.iter().any(|reading| *reading == forwarded), "{}", forwarded);
                }
            }
            prop_assert!(readings.contains(&normalized_path(&path)));
        }

        #[test]
        fn plain_paths_have_one_reading(path in "(/[a-zA-Z0-9_~-]{1,3}){1,4}/?") {
            prop_assert_eq!(readings(&path), vec![path.as_str()]);
            for normalization in PathNormalization::ALL {
                let forwarded = normalization.forwarded_path(&path);
                prop_assert_eq!(forwarded.as_deref(), Ok(path.as_str()));
            }
        }
    }
}
