//! The path of an `httpGet` as kubelet puts it on the wire: it is read and written anew by Go's
//! `net/url`, which this does as far as paths of probes go.

/// The request target of a GET for that path (RFC 9112 section 3.2.1).
pub(super) fn request_target(path: &str) -> String {
    let is_url = !path.bytes().any(|byte| byte < 0x20 || byte == 0x7F);
    if !is_url {
        return absolute(&escaped(path.as_bytes()));
    }
    let (path, _fragment) = path.split_once('#').unwrap_or((path, ""));
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let path = without_authority(path);
    let path = match unescaped(path) {
        // As it was written, where that is a valid way to write it.
        Some(_) if path.bytes().all(is_valid_encoding) => path.to_owned(),
        Some(plain) => escaped(&plain),
        // No escape sequences: all of it is the path, signs and all.
        None => return absolute(&escaped(path.as_bytes())),
    };
    match query {
        Some(query) => format!("{}?{query}", absolute(&path)),
        None => absolute(&path),
    }
}

fn absolute(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

/// Scheme and host are kubelet's, whatever the path says of them.
fn without_authority(path: &str) -> &str {
    let rest = path
        .strip_prefix("http:")
        .or_else(|| path.strip_prefix("https:"))
        .unwrap_or(path);
    match rest.strip_prefix("//") {
        Some(authority) => authority.find('/').map_or("", |start| &authority[start..]),
        None => path,
    }
}

/// `validEncoded` of `net/url`, for paths.
fn is_valid_encoding(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~/!$&'()*+,;=:@[]%".contains(&byte)
}

/// `shouldEscape` of `net/url`, for paths.
fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~/$&+,;=:@".contains(&byte)
}

fn escaped(plain: &[u8]) -> String {
    let mut text = String::with_capacity(plain.len());
    for byte in plain {
        match is_kept(*byte) {
            true => text.push(char::from(*byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Without its escape sequences; `None` when one is broken.
fn unescaped(path: &str) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        plain.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `url.Parse`, `String` and `RequestURI` of Go make it.
    #[test]
    fn a_path_is_on_the_wire_as_go_writes_it() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/healthz", "/healthz"),
            ("healthz", "/healthz"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("/a?", "/a?"),
            ("?a=b", "/?a=b"),
            ("/a#b", "/a"),
            ("/a?b#c", "/a?b"),
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb c", "/a/b%20c"),
            ("/a%zz", "/a%25zz"),
            ("/ä", "/%C3%A4"),
            ("/a/../b", "/a/../b"),
            ("//other/b", "/b"),
            ("//other", "/"),
            ("http://other/b?c", "/b?c"),
            ("/a;b=c/(d)", "/a;b=c/(d)"),
            ("/a|b", "/a%7Cb"),
            ("/a\u{1}?b", "/a%01%3Fb"),
        ] {
            assert_eq!(request_target(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_target_begins_with_a_slash_whatever_the_path(path in "\\PC*") {
            prop_assert!(request_target(&path).starts_with('/'));
        }
    }
}
