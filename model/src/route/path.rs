//! Paths of requests, as rules read them.

use std::borrow::Cow;

/// The normal form of a request's path: percent-encoded unreserved characters are decoded
/// (RFC 3986 section 6.2.2.2), then dot segments are removed (section 5.2.4). Both forms name
/// the same resource, so a rule must not tell them apart, nor may the server that gets the
/// request read another path than the rule did. What servers read differently (`//`, `%2F`,
/// upper case, `;`) stays as it is. Borrowed where the path is normal already; `*` of
/// `OPTIONS *`, and other paths that don't begin with a slash, are.
///
/// ```
/// use weft_model::route::path::normalize;
///
/// assert_eq!(normalize("/cart/../%61dmin"), "/admin");
/// assert_eq!(normalize("/a%2Fb"), "/a%2Fb");
/// ```
pub fn normalize(path: &str) -> Cow<'_, str> {
    if !path.starts_with('/') {
        return Cow::Borrowed(path);
    }
    match decode_unreserved(path) {
        Cow::Borrowed(path) if !has_dot_segment(path) => Cow::Borrowed(path),
        decoded => Cow::Owned(remove_dot_segments(&decoded)),
    }
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Resolves `.` and `..` in a path that begins with a slash. Above the root there is nothing.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // A dot at the end names a folder.
                if segments.peek().is_none() {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in kept {
        normal.push('/');
        normal.push_str(segment);
    }
    normal
}

/// Decodes what needn't be encoded. A path with a malformed escape is left alone: `%2%65` must
/// not become `%2e`.
fn decode_unreserved(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    let mut is_changed = false;
    for piece in pieces {
        let Some(byte) = escaped_byte(piece) else {
            return Cow::Borrowed(path);
        };
        let character = char::from(byte);
        if character.is_ascii_alphanumeric() || "-._~".contains(character) {
            is_changed = true;
            decoded.push(character);
            decoded.push_str(&piece[2..]);
        } else {
            decoded.push('%');
            decoded.push_str(piece);
        }
    }
    match is_changed {
        true => Cow::Owned(decoded),
        false => Cow::Borrowed(path),
    }
}

/// The byte of which the two hexadecimal digits begin what follows a `%`.
fn escaped_byte(digits: &str) -> Option<u8> {
    let digits = digits.get(..2)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_one_path_are_normalized_to_the_same() {
        for (sent, normal) in [
            ("/", "/"),
            ("/admin/x", "/admin/x"),
            ("/x/../admin/x", "/admin/x"),
            ("/./admin/x", "/admin/x"),
            ("/../../admin/x", "/admin/x"),
            ("/%61dmin/x", "/admin/x"),
            ("/x/%2e%2E/admin/x", "/admin/x"),
            ("/x/.%2e/admin/x", "/admin/x"),
            ("/admin/.", "/admin/"),
            ("/admin/x/..", "/admin/"),
            ("/..", "/"),
            ("/a/b/../../..", "/"),
            ("/%7Euser", "/~user"),
        ] {
            assert_eq!(normalize(sent), normal, "{sent}");
        }
    }

    #[test]
    fn what_servers_read_differently_stays() {
        for path in [
            "//admin/x",
            "/admin%2fx",
            "/ADMIN/x",
            "/admin;a/x",
            "/...",
            "/.well-known/x",
            "/a..b",
            "/%",
            "/%4",
            "/%zz",
            "/%E4%B8%AD",
            "/%252e%252e/admin",
            "/%2%65/admin",
            "/%%32e/%61",
            "*",
        ] {
            let normal = normalize(path);
            assert!(matches!(normal, Cow::Borrowed(_)), "{path}: {normal}");
            assert_eq!(normal, path);
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_has_no_dot_segment_and_begins_with_a_slash(
            path in "/(%2[eE5fF]|%6[0-9a-f]|%|[./a~é]){0,20}"
        ) {
            let normal = normalize(&path);
            prop_assert!(normal.starts_with('/'));
            prop_assert!(!has_dot_segment(&normal), "{normal}");
            prop_assert_eq!(normalize(&normal), normal.as_ref(), "once is enough");
        }
    }
}
