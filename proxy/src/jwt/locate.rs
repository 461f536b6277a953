//! The places in a request where tokens are.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use weft_model::request_authentication::{JwtProvider, TokenLocation};

use crate::http::percent::decoded;

/// A token of a request, and where it was.
#[derive(Debug)]
pub(super) struct FoundToken<'a> {
    pub(super) location: &'a TokenLocation,
    pub(super) token: Cow<'a, [u8]>,
}

/// Every token in the places of some issuers, of which two are too many.
pub(super) fn find_tokens<'a>(
    providers: &[&'a JwtProvider],
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Vec<FoundToken<'a>> {
    let mut places: Vec<&TokenLocation> = Vec::new();
    for location in providers.iter().flat_map(|provider| &provider.locations) {
        if !places.contains(&location) {
            places.push(location);
        }
    }
    let mut found = in_headers(&places, headers);
    for location in places {
        match location {
            TokenLocation::Header { .. } => {}
            TokenLocation::Cookie(name) => {
                let tokens = cookies(headers).filter(|(known, _)| *known == name.as_bytes());
                found.extend(tokens.map(|(_, value)| FoundToken {
                    location,
                    token: unquoted(value).into(),
                }));
            }
            TokenLocation::Query(name) => {
                let tokens = parameters(query).filter(|(known, _)| is_parameter(known, name));
                found.extend(tokens.map(|(_, value)| FoundToken {
                    location,
                    token: decoded(value).into_bytes().into(),
                }));
            }
        }
    }
    found
}

/// The tokens in headers. Of several places in one header, the one with the longest prefix counts.
fn in_headers<'a>(places: &[&'a TokenLocation], headers: &'a HeaderMap) -> Vec<FoundToken<'a>> {
    let mut names: Vec<&HeaderName> = Vec::new();
    for place in places {
        if let TokenLocation::Header { name, .. } = place
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    let lines = names.into_iter().flat_map(|name| {
        let lines = headers.get_all(name).iter();
        lines.map(move |line| (name, line.as_bytes()))
    });
    let tokens = lines.filter_map(|(name, line)| {
        let here = places.iter().filter_map(|place| match place {
            TokenLocation::Header { name: own, prefix } if own == name => {
                let token = without_prefix(line, prefix.as_bytes())?;
                Some((prefix.len(), *place, token))
            }
            _ => None,
        });
        let (_, location, token) = here.max_by_key(|(length, _, _)| *length)?;
        Some(FoundToken {
            location,
            token: token.into(),
        })
    });
    tokens.collect()
}

/// A header's value without what is ahead of the token. A scheme (RFC 9110 section 11.1) may be in
/// any case, and any space may follow it.
pub(super) fn without_prefix<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let line = line.trim_ascii();
    let scheme = prefix.trim_ascii();
    if scheme.is_empty() {
        return (!line.is_empty()).then_some(line);
    }
    let (start, rest) = line.split_at_checked(scheme.len())?;
    let is_separate = scheme.len() == prefix.trim_ascii_start().len()
        || rest.first().is_none_or(u8::is_ascii_whitespace);
    (start.eq_ignore_ascii_case(scheme) && is_separate).then(|| rest.trim_ascii())
}

/// Names and values of cookies.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(cookie)
}

/// Name and value of one cookie.
pub(super) fn cookie(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
    Some((name.trim_ascii(), value.trim_ascii()))
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    let inner = inner.and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// Names and values of the parameters of a query, as they are written.
fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether a parameter is the one of a name, however it is encoded.
pub(super) fn is_parameter(written: &str, name: &str) -> bool {
    written == name || decoded(written) == name
}
