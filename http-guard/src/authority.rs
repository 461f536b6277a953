//! `host` or `host:port`, as the Host field and some request targets have it (RFC 9110
//! section 7.2, RFC 3986 section 3.2).

use memchr::memchr;

use crate::characters::is_host_char;

/// A host with an optional port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets; may be empty.
    pub(crate) host: &'a [u8],
    /// Decimal digits behind the colon, or nothing behind it.
    pub(crate) port: Option<&'a [u8]>,
}

impl<'a> Authority<'a> {
    /// Reads `host [ ":" port ]`. There is one way to tell host from port only: no colon
    /// is part of a name, and an IPv6 address stands in brackets.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let host_length = match text {
            [b'[', ..] => memchr(b']', text)? + 1,
            _ => memchr(b':', text).unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_length);
        let port = match rest {
            [] => None,
            [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Some(digits),
            _ => return None,
        };
        is_host(host).then_some(Self { host, port })
    }

    /// Whether both name the same host and port, where one that isn't said is
    /// `implied_port`.
    pub(crate) fn is_same_as(&self, other: &Self, implied_port: &[u8]) -> bool {
        let port = |authority: &Self| authority.port.unwrap_or(implied_port);
        port(self) == port(other) && self.host.eq_ignore_ascii_case(other.host)
    }

    /// Whether a connection can be opened to it: it has a host, and a port from 1 to 65535.
    pub(crate) fn is_connectable(&self) -> bool {
        let port = self.port.and_then(|port| std::str::from_utf8(port).ok());
        let number = port.and_then(|port| port.parse::<u16>().ok());
        !self.host.is_empty() && number.is_some_and(|number| number != 0)
    }
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', address @ .., b']'] => {
            !address.is_empty()
                && address
                    .iter()
                    .all(|byte| *byte == b':' || is_host_char(*byte))
        }
        name => name.iter().all(|byte| is_host_char(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        for (text, host, port) in [
            ("", "", None),
            ("shop", "shop", None),
            ("shop:", "shop", Some("")),
            ("shop:80", "shop", Some("80")),
            ("my_shop.example", "my_shop.example", None),
            ("192.0.2.1:80", "192.0.2.1", Some("80")),
            ("[fd00::1]", "[fd00::1]", None),
            ("[fe80::1%25eth0]:80", "[fe80::1%25eth0]", Some("80")),
        ] {
            let expected = Authority {
                host: host.as_bytes(),
                port: port.map(str::as_bytes),
            };
            assert_eq!(Authority::parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_could_be_split_in_two_ways_is_none() {
        for text in [
            "shop:80:81",
            "shop:http",
            "fd00::1",
            "fd00::1:80",
            "[fd00::1",
            "[fd00::1]80",
            "[fd00::1]]",
            "fd00::1]",
            "[]",
            "[a]b",
            "a[b]",
            "user@shop",
            "shop,vault",
            "shop/",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_port_that_is_implied_need_not_be_said() {
        let same = |one: &str, other: &str| {
            let (one, other) = (one.as_bytes(), other.as_bytes());
            let (one, other) = (Authority::parse(one), Authority::parse(other));
            one.unwrap().is_same_as(&other.unwrap(), b"80")
        };
        assert!(same("shop", "SHOP:80"));
        assert!(same("shop:81", "shop:81"));
        assert!(!same("shop", "shop:81"));
        assert!(!same("shop", "shop:"));
        assert!(!same("shop", "vault"));
    }
}
