//! Patterns of paths.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::pattern::{InvalidPattern, TextPattern};
use super::request_path::comparable;
use crate::route::path::normalized_path;

/// A path (`/cart`), what begins so (`/cart/*`) or ends so (`*.png`), any (`*`), or a template:
/// `{*}` is one segment, `{**}` any number of them, at most once.
///
/// It is compared byte by byte with what the path is when it is decoded, but for `/`, `\`, `%`
/// and NUL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPattern {
    text: Arc<str>,
    matcher: Matcher,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Matcher {
    Any,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Template {
        first: Vec<Segment>,
        /// The segments behind `{**}`.
        last: Option<Vec<Segment>>,
    },
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    /// `{*}`: any, but none without a character.
    Any,
    Literal(Box<[u8]>),
}

/// A text that is no pattern of paths.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPathPattern {
    /// Wildcards where there may be none.
    #[error(transparent)]
    Text(#[from] InvalidPattern),
    /// Neither a path nor its end.
    #[error("`{0}` begins neither with `/` nor with `*`")]
    NoPath(String),
    /// It has a query.
    #[error("`{0}` has a `?` or `#`; paths are compared without the query")]
    Query(String),
    /// No request is compared in that form.
    #[error(
        "`{0}` is not the form in which paths are compared: write it without `//`, `.` and `..` \
         segments, `\\`, and with letters, digits, `-`, `.`, `_` and `~` as they are"
    )]
    NotNormal(String),
    /// A template that can't be.
    #[error(
        "`{0}` is not a template: `{{*}}` and `{{**}}` stand for whole segments, `{{**}}` at most \
         once, and there is no other wildcard"
    )]
    Template(String),
}

/// The part of a pattern by which it can be found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PathKey<'a> {
    /// The whole path.
    Exact(&'a [u8]),
    /// The first segment of the path.
    FirstSegment(&'a [u8]),
    /// It may match any path.
    Any,
}

impl PathPattern {
    /// Whether it matches a path in the form in which paths are compared.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Any => true,
            Matcher::Exact(exact) => **exact == *path,
            Matcher::Prefix(prefix) => path.starts_with(prefix),
            Matcher::Suffix(suffix) => path.ends_with(suffix),
            Matcher::Template { first, last } => matches_template(first, last.as_deref(), path),
        }
    }

    /// The part by which it can be found.
    pub(super) fn key(&self) -> PathKey<'_> {
        match &self.matcher {
            Matcher::Exact(exact) => PathKey::Exact(exact),
            Matcher::Prefix(prefix) => match prefix.split(|byte| *byte == b'/').nth(1) {
                // Not when the segment may go on.
                Some(segment) if prefix.len() > segment.len() + 1 => PathKey::FirstSegment(segment),
                _ => PathKey::Any,
            },
            Matcher::Template { first, .. } => match first.first() {
                Some(Segment::Literal(segment)) => PathKey::FirstSegment(segment),
                _ => PathKey::Any,
            },
            Matcher::Any | Matcher::Suffix(_) => PathKey::Any,
        }
    }
}

/// The first segment of a path.
pub(super) fn first_segment(path: &[u8]) -> Option<&[u8]> {
    path.split(|byte| *byte == b'/').nth(1)
}

fn matches_template(first: &[Segment], last: Option<&[Segment]>, path: &[u8]) -> bool {
    let Some(path) = path.strip_prefix(b"/") else {
        return false;
    };
    let mut segments = path.split(|byte| *byte == b'/');
    let mut first = first.iter();
    if !first.all(|segment| segments.next().is_some_and(|found| segment.matches(found))) {
        return false;
    }
    match last {
        None => segments.next().is_none(),
        Some(last) => {
            let mut last = last.iter().rev();
            last.all(|segment| {
                segments
                    .next_back()
                    .is_some_and(|found| segment.matches(found))
            })
        }
    }
}

impl Segment {
    fn matches(&self, segment: &[u8]) -> bool {
        match self {
            Self::Any => !segment.is_empty(),
            Self::Literal(literal) => **literal == *segment,
        }
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPathPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(['?', '#']) {
            return Err(InvalidPathPattern::Query(text.to_owned()));
        }
        if !text.is_empty() && !text.starts_with(['/', '*']) {
            return Err(InvalidPathPattern::NoPath(text.to_owned()));
        }
        let matcher = match text.contains(['{', '}']) {
            true => template(text)?,
            false => wildcard(text)?,
        };
        Ok(Self {
            text: text.into(),
            matcher,
        })
    }
}

fn wildcard(text: &str) -> Result<Matcher, InvalidPathPattern> {
    Ok(match text.parse()? {
        TextPattern::Any => Matcher::Any,
        TextPattern::Exact(exact) => Matcher::Exact(normal(&exact, text)?),
        TextPattern::Prefix(prefix) => Matcher::Prefix(normal(&prefix, text)?),
        TextPattern::Suffix(suffix) => Matcher::Suffix(normal(&suffix, text)?),
    })
}

fn template(text: &str) -> Result<Matcher, InvalidPathPattern> {
    let invalid = || InvalidPathPattern::Template(text.to_owned());
    let path = text.strip_prefix('/').ok_or_else(invalid)?;
    let (mut first, mut last) = (Vec::new(), None::<Vec<_>>);
    for part in path.split('/') {
        let segment = match part {
            "{**}" if last.is_none() => {
                last = Some(Vec::new());
                continue;
            }
            "{*}" => Segment::Any,
            literal if literal.contains(['{', '}', '*']) => return Err(invalid()),
            literal => Segment::Literal(comparable(literal.as_bytes()).into()),
        };
        last.as_mut().unwrap_or(&mut first).push(segment);
    }
    // As a path with other segments in place of the wildcards.
    normal(&text.replace("{**}", "x").replace("{*}", "x"), text)?;
    Ok(Matcher::Template { first, last })
}

/// A path or a part of one in the form in which paths are compared.
fn normal(part: &str, text: &str) -> Result<Box<[u8]>, InvalidPathPattern> {
    // So that the part's ends aren't taken for those of segments.
    let path: Cow<'_, str> = match part.starts_with('/') {
        true => part.into(),
        false => format!("/x{part}").into(),
    };
    let is_normal = normalized_path(&path) == path && !path.contains('\\');
    match is_normal {
        true => Ok(comparable(part.as_bytes()).into()),
        false => Err(InvalidPathPattern::NotNormal(text.to_owned())),
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
