//! Texts with a wildcard.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::identity::SpiffeId;

/// A text that begins or ends with a wildcard, or has none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum TextPattern {
    /// `*`: any text.
    Any,
    /// The whole text.
    Exact(Arc<str>),
    /// `text*`: what begins so.
    Prefix(Arc<str>),
    /// `*text`: what ends so.
    Suffix(Arc<str>),
}

/// A text that is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing.
    #[error("the text is empty; write `*` for any")]
    Empty,
    /// A wildcard in the middle, or two.
    #[error("`{0}` has a `*` that is neither its first nor its last character, or two of them")]
    Wildcard(String),
}

impl TextPattern {
    /// Whether it matches a text.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.as_bytes() == text,
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_bytes()),
        }
    }

    /// Whether it matches a text when the case of letters doesn't count.
    pub(super) fn matches_ignoring_case(&self, text: &[u8]) -> bool {
        let eq = |text: Option<&[u8]>, pattern: &str| {
            text.is_some_and(|text| text.eq_ignore_ascii_case(pattern.as_bytes()))
        };
        match self {
            Self::Any => true,
            Self::Exact(exact) => eq(Some(text), exact),
            Self::Prefix(prefix) => eq(text.get(..prefix.len()), prefix),
            Self::Suffix(suffix) => {
                let start = text.len().checked_sub(suffix.len());
                eq(start.and_then(|start| text.get(start..)), suffix)
            }
        }
    }
}

impl FromStr for TextPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |part: &str| match part.contains('*') {
            true => Err(InvalidPattern::Wildcard(text.to_owned())),
            false => Ok(Arc::from(part)),
        };
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (None, None) if text.is_empty() => Err(InvalidPattern::Empty),
            (Some(""), _) => Ok(Self::Any),
            (Some(suffix), _) => Ok(Self::Suffix(part(suffix)?)),
            (None, Some(prefix)) => Ok(Self::Prefix(part(prefix)?)),
            (None, None) => Ok(Self::Exact(part(text)?)),
        }
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// SPIFFE IDs, by their text without `spiffe://`:
/// `cluster.local/ns/shop/sa/cart`, `cluster.local/ns/shop/*`, `*/sa/cart`, `*`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PrincipalPattern(TextPattern);

impl PrincipalPattern {
    /// Whether it matches an identity.
    pub fn matches(&self, identity: &SpiffeId) -> bool {
        match &self.0 {
            TextPattern::Any => true,
            TextPattern::Exact(exact) => exact.bytes().eq(bytes(identity)),
            TextPattern::Prefix(prefix) => {
                let mut id = bytes(identity);
                prefix.bytes().all(|byte| id.next() == Some(byte))
            }
            TextPattern::Suffix(suffix) => {
                let mut id = bytes(identity).rev();
                suffix.bytes().rev().all(|byte| id.next() == Some(byte))
            }
        }
    }

    /// Whether it matches every identity.
    pub(super) fn is_any(&self) -> bool {
        self.0 == TextPattern::Any
    }

    /// The identity that it matches alone; `None` for a wildcard, and for what is no identity.
    pub(super) fn exact(&self) -> Option<SpiffeId> {
        match &self.0 {
            TextPattern::Exact(exact) => format!("spiffe://{exact}").parse().ok(),
            _ => None,
        }
    }
}

/// The bytes of an identity's text without `spiffe://`.
fn bytes(identity: &SpiffeId) -> impl DoubleEndedIterator<Item = u8> {
    let domain = identity.trust_domain().as_str().bytes();
    let namespace = "/ns/".bytes().chain(identity.namespace().bytes());
    let account = "/sa/".bytes().chain(identity.service_account().bytes());
    domain.chain(namespace).chain(account)
}

impl FromStr for PrincipalPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("spiffe://").unwrap_or(text);
        rest.parse().map(Self)
    }
}

impl fmt::Display for PrincipalPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
