//! What a token says.

use std::fmt;
use std::sync::Arc;

/// The names that lead to a claim, from the outside in: `realm_access`, `roles`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClaimPath(Vec<Arc<str>>);

/// A path that leads to no claim.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a claim has 1 to {most} names, from the outside in, none of them empty",
    most = ClaimPath::MOST_NAMES
)]
pub struct InvalidClaimPath;

impl ClaimPath {
    /// The most names of one path.
    pub const MOST_NAMES: usize = 8;

    /// A path of names, from the outside in.
    ///
    /// # Errors
    /// When there is none, an empty one, or too many.
    pub fn new<T: Into<Arc<str>>>(
        names: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidClaimPath> {
        let names: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        let is_path = (1..=Self::MOST_NAMES).contains(&names.len());
        match is_path && names.iter().all(|name| !name.is_empty()) {
            true => Ok(Self(names)),
            false => Err(InvalidClaimPath),
        }
    }

    /// Its names, from the outside in.
    pub fn names(&self) -> &[Arc<str>] {
        &self.0
    }

    /// A claim whose text is a list, separated by spaces (RFC 8693 section 4.2).
    fn is_space_separated(&self) -> bool {
        matches!(&*self.0, [name] if matches!(&**name, "scope" | "permission"))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "[{name}]"))
    }
}

/// The value of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimValue {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A text.
    Text(Box<str>),
    /// Several values.
    List(Vec<Self>),
    /// Claims within a claim. No name comes twice.
    Object(Vec<(Box<str>, Self)>),
}

/// A part of a claim's value, as rules compare it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ClaimPart<'a> {
    /// Its text.
    Text(std::borrow::Cow<'a, str>),
    /// It has a value that is no text.
    Other,
    /// Nobody knows whether it has one.
    Null,
}

impl ClaimValue {
    /// Its text, where it has one: of a boolean or of a number without fraction, too.
    pub fn text(&self) -> Option<std::borrow::Cow<'_, str>> {
        match self {
            Self::Text(text) => Some((&**text).into()),
            Self::Bool(value) => Some(if *value { "true" } else { "false" }.into()),
            Self::Integer(value) => Some(value.to_string().into()),
            Self::Null | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    fn part(&self) -> ClaimPart<'_> {
        match (self, self.text()) {
            (_, Some(text)) => ClaimPart::Text(text),
            (Self::Null, None) => ClaimPart::Null,
            (_, None) => ClaimPart::Other,
        }
    }
}

/// What a verified token says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    members: Vec<(Box<str>, ClaimValue)>,
    principal: Option<Box<str>>,
}

impl Claims {
    /// The members of a token's payload. No name comes twice.
    pub fn new(members: Vec<(Box<str>, ClaimValue)>) -> Self {
        let mut claims = Self {
            members,
            principal: None,
        };
        claims.principal = match (claims.text("iss"), claims.text("sub")) {
            (Some(issuer), Some(subject)) if !issuer.is_empty() && !subject.is_empty() => {
                Some(format!("{issuer}/{subject}").into())
            }
            _ => None,
        };
        claims
    }

    /// A claim of the payload itself.
    pub fn member(&self, name: &str) -> Option<&ClaimValue> {
        find(&self.members, name)
    }

    /// The text of a claim that has to be one.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.member(name)? {
            ClaimValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The claim that a path leads to.
    pub fn get(&self, path: &ClaimPath) -> Option<&ClaimValue> {
        let (first, rest) = path.names().split_first()?;
        let mut value = self.member(first)?;
        for name in rest {
            match value {
                ClaimValue::Object(members) => value = find(members, name)?,
                _ => return None,
            }
        }
        Some(value)
    }

    /// `issuer/subject`; `None` where one of them is missing.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// The parts of a claim's value, as rules compare them: none where it isn't there.
    pub(crate) fn parts(&self, path: &ClaimPath) -> Vec<ClaimPart<'_>> {
        match self.get(path) {
            None => Vec::new(),
            Some(ClaimValue::List(values)) => values.iter().map(ClaimValue::part).collect(),
            Some(ClaimValue::Text(text)) if path.is_space_separated() => {
                let parts = text.split(' ').filter(|part| !part.is_empty());
                parts.map(|part| ClaimPart::Text(part.into())).collect()
            }
            Some(value) => vec![value.part()],
        }
    }
}

fn find<'a>(members: &'a [(Box<str>, ClaimValue)], name: &str) -> Option<&'a ClaimValue> {
    let found = members.iter().find(|(known, _)| **known == *name);
    found.map(|(_, value)| value)
}
