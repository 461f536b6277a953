//! Host names: patterns of them, and how closely a pattern fits a name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// The longest DNS name in its text form, in bytes (RFC 1035 section 2.3.4).
const MAX_NAME_LENGTH: usize = 253;

/// The part of a client's first bytes that names the host it wants.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HostSource {
    /// The authority of its HTTP request (RFC 9110 section 7.2).
    HttpAuthority,
    /// The server name of its ClientHello (RFC 6066 section 3).
    ServerName,
}

/// A host that a client asks for by its first bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestedHost {
    /// The part of the first bytes that names it.
    pub source: HostSource,
    /// DNS name, in lower case.
    pub name: Arc<str>,
}

/// A DNS name in lower case, or `*.` and a name, which stands for every name below it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HostPattern(Arc<str>);

/// A text that is no host pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a DNS name in lower case, nor `*.` and one")]
pub struct InvalidHostPattern(String);

impl HostPattern {
    /// The name of a pattern without wildcard; `None` for a wildcard.
    pub fn exact_name(&self) -> Option<&Arc<str>> {
        (!self.0.starts_with("*.")).then_some(&self.0)
    }

    /// Specificity of the pattern for a host name that it fits; see [`specificity`].
    pub fn specificity_for(&self, host: &str) -> Option<usize> {
        specificity(&self.0, host)
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_label = |label: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            (1..=63).contains(&label.len()) && label.chars().all(fits)
        };
        let name = text.strip_prefix("*.").unwrap_or(text);
        let fits = name.len() <= MAX_NAME_LENGTH && name.split('.').all(is_label);
        // An address would never match: clients don't ask for one by name.
        match fits && text.parse::<IpAddr>().is_err() {
            true => Ok(Self(text.into())),
            false => Err(InvalidHostPattern(text.to_owned())),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Specificity of a pattern (`name` or `*.name`, in lower case) for a host name, the higher
/// the closer it fits: an exact name before any wildcard, a long wildcard before a short
/// one. `None` when it doesn't fit. Host names are compared without regard to case.
pub fn specificity(pattern: &str, host: &str) -> Option<usize> {
    let host = host.to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        None => (*pattern == host).then_some(pattern.len() * 2 + 1),
        Some(domain) => {
            let label = host.strip_suffix(domain)?.strip_suffix('.')?;
            (!label.is_empty()).then_some(domain.len() * 2)
        }
    }
}

/// A host name as the mesh compares them, from what a client sent: in lower case, without
/// the dot of an absolute name. `None` when it is no DNS name.
pub(crate) fn normalize_host(name: &str) -> Option<Arc<str>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_name = (1..=MAX_NAME_LENGTH).contains(&name.len()) && name.bytes().all(fits);
    is_name.then(|| name.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_names_in_lower_case() {
        for good in ["example.org", "*.example.org", "a-b_c.example", "localhost"] {
            assert_eq!(good.parse::<HostPattern>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "*",
            "*.",
            "a.*.b",
            "Example.org",
            "a..b",
            "a b",
            "192.0.2.1",
            ".a",
            "a/b",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_exact_name_fits_closer_than_a_long_wildcard_than_a_short_one() {
        let host = "A.b.example.org";
        let [exact, long, short] = ["a.b.example.org", "*.b.example.org", "*.example.org"]
            .map(|pattern| specificity(pattern, host).unwrap());
        assert!(exact > long && long > short);
    }

    proptest! {
        /// A wildcard stands for names below it, never for itself or beside it.
        #[test]
        fn a_wildcard_fits_exactly_the_names_below(domain in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}", name in "[a-z]{1,4}(\\.[a-z]{1,4}){0,3}") {
            let (suffix, pattern) = (format!(".{domain}"), format!("*.{domain}"));
            let pattern: HostPattern = pattern.parse().unwrap();
            let (below, beside) = (format!("{name}{suffix}"), format!("{name}{domain}"));
            prop_assert!(pattern.specificity_for(&below).is_some());
            prop_assert!(pattern.specificity_for(&domain).is_none());
            for other in [name, beside] {
                prop_assert_eq!(pattern.specificity_for(&other).is_some(), other.ends_with(&suffix));
            }
        }
    }
}
