//! Where the keys of an issuer are fetched.

use std::fmt;
use std::sync::Arc;

use http::Uri;

/// Ahead of the issuer in the name of [`KeySource::Issuer`]; no address begins with it.
const OPENID: &str = "openid:";

/// Where the keys of an issuer are fetched.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum KeySource {
    /// The address of a key set.
    Address(Arc<str>),
    /// The address that the issuer of that name gives (OpenID Connect Discovery 1.0, section 4).
    Issuer(Arc<str>),
}

impl KeySource {
    /// Its name to agents.
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Self::Address(address) => Arc::clone(address),
            Self::Issuer(issuer) => format!("{OPENID}{issuer}").into(),
        }
    }

    /// The one of a name.
    pub(crate) fn of_name(name: &str) -> Self {
        match name.strip_prefix(OPENID) {
            Some(issuer) => Self::Issuer(issuer.into()),
            None => Self::Address(name.into()),
        }
    }

    /// The address that is asked first.
    pub(crate) fn url(&self) -> Arc<str> {
        match self {
            Self::Address(address) => Arc::clone(address),
            Self::Issuer(issuer) => {
                let issuer = issuer.trim_end_matches('/');
                format!("{issuer}/.well-known/openid-configuration").into()
            }
        }
    }

    /// The host that is asked first, in lower case; empty where there is none.
    pub(crate) fn host(&self) -> String {
        let uri = self.url().parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        host.to_ascii_lowercase()
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// An address that can be asked for keys, as far as its text says: of HTTP, without a user.
pub(crate) fn is_key_address(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        let has_scheme = matches!(uri.scheme_str(), Some("https" | "http"));
        let authority = uri.authority().map(|authority| authority.as_str());
        has_scheme && authority.is_some_and(|authority| !authority.contains('@'))
    })
}

/// An issuer that can be asked for the address of its keys: one with neither query nor fragment
/// (OpenID Connect Discovery 1.0, section 3).
pub(super) fn is_discoverable(issuer: &str) -> bool {
    is_key_address(issuer) && !issuer.contains(['?', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_its_name() {
        for (source, url) in [
            (
                KeySource::Address("https://a.example/keys".into()),
                "https://a.example/keys",
            ),
            (
                KeySource::Issuer("https://A.example/realm/".into()),
                "https://A.example/realm/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(KeySource::of_name(&source.name()), source);
            assert_eq!(source.to_string(), url);
            assert_eq!(source.host(), "a.example");
        }
    }

    #[test]
    fn only_an_issuer_that_is_a_plain_address_is_asked() {
        for (issuer, expected) in [
            ("https://a.example", true),
            ("https://a.example/realms/one", true),
            ("accounts.example", false),
            ("https://user@a.example", false),
            ("https://a.example/?x", false),
            ("https://a.example/#x", false),
            ("ftp://a.example", false),
        ] {
            assert_eq!(is_discoverable(issuer), expected, "{issuer}");
        }
    }
}
