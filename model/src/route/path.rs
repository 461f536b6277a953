//! One path for all the ways to write it: what rules compare, so that none is walked around.

use std::borrow::Cow;

/// The path that a server may well take another one for: characters that need no encoding are
/// decoded (RFC 3986 section 6.2.2.2), `.` and `..` are resolved (section 6.2.2.3), several
/// slashes are one. An encoded slash stays one, and so does the case of letters.
pub fn normalized_path(path: &str) -> Cow<'_, str> {
    let is_plain = !path.contains('%') && !path.contains("//") && !path.contains("/.");
    if is_plain || !path.starts_with('/') {
        return Cow::Borrowed(path);
    }
    let decoded = decode_unreserved(path);
    let mut segments = Vec::new();
    // Of what ends with a slash the last segment is empty.
    let mut ends_with_slash = false;
    for segment in decoded.split('/').skip(1) {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut normalized = String::with_capacity(decoded.len());
    for segment in &segments {
        normalized.push('/');
        normalized.push_str(segment);
    }
    if ends_with_slash || segments.is_empty() {
        normalized.push('/');
    }
    Cow::Owned(normalized)
}

/// Decodes letters, digits and the marks that mean nothing (RFC 3986 section 2.3).
fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut parts = path.split('%');
    decoded.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') => {
                decoded.push(c);
                decoded.push_str(&part[2..]);
            }
            _ => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_compared_as_a_server_may_take_it() {
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
        ] {
            assert_eq!(normalized_path(path), normalized, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_normalized_path_begins_with_a_slash_and_climbs_nowhere(path in "/[a./%25e2]{0,20}") {
            let once = normalized_path(&path).into_owned();
            prop_assert!(once.starts_with('/'));
            let has_dots = once.split('/').any(|segment| matches!(segment, "." | ".."));
            prop_assert!(!has_dots, "{}", once);
        }
    }
}
