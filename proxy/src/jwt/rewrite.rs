//! A request as the application gets it: without headers that only the proxy sets, without a token
//! that isn't for the application, and with the claims that are.

use std::borrow::Cow;

use http::header::COOKIE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_model::request_authentication::{
    ClaimHeader, ClaimValue, Claims, JwtProvider, TokenLocation, is_same_header,
};

use super::cache::VerifiedToken;
use super::locate::{FoundToken, cookie, is_parameter, without_prefix};
use super::token::payload;
use crate::upstream::{RequestHead, RewrittenHead};

/// The head of a request for the application, with its token where it has one.
pub(super) fn rewrite(
    providers: &[&JwtProvider],
    head: &RequestHead<'_>,
    token: Option<(&FoundToken<'_>, &VerifiedToken)>,
) -> RewrittenHead {
    let mut headers = head.headers.clone();
    let own = providers.iter().flat_map(|provider| provider.own_headers());
    for own in own {
        let spoofed = headers.keys().filter(|name| is_same_header(name, own));
        let spoofed: Vec<_> = spoofed.cloned().collect();
        for name in spoofed {
            headers.remove(name);
        }
    }
    remove_look_alikes(providers, &mut headers);
    let mut target = None;
    if let Some((found, verified)) = token {
        let provider = &verified.provider;
        if !provider.forwards_token {
            target = remove(found, &mut headers, head);
        }
        for header in &provider.claim_headers {
            if let Some(value) = header_value(header, &verified.claims) {
                headers.insert(header.name.clone(), value);
            }
        }
        let payload = HeaderValue::from_bytes(payload(&found.token));
        if let (Some(name), Ok(payload)) = (&provider.payload_header, payload) {
            headers.insert(name.clone(), payload);
        }
    }
    RewrittenHead { headers, target }
}

/// Removes what an application may take for a header with a token, and nobody has verified.
fn remove_look_alikes(providers: &[&JwtProvider], headers: &mut HeaderMap) {
    let places = providers.iter().flat_map(|provider| &provider.locations);
    for place in places {
        let TokenLocation::Header { name: own, .. } = place else {
            continue;
        };
        let is_other = |name: &&HeaderName| *name != own && is_same_header(name, own);
        let others: Vec<_> = headers.keys().filter(is_other).cloned().collect();
        for other in others {
            headers.remove(other);
        }
    }
}

/// The text of a claim, as a header has it: of a list, all of its texts with commas between them.
/// `None` where it has none, or one in which the application could read another.
fn header_value(header: &ClaimHeader, claims: &Claims) -> Option<HeaderValue> {
    let text = match claims.get(&header.claim)? {
        ClaimValue::List(values) => {
            let texts: Option<Vec<Cow<'_, str>>> = values.iter().map(ClaimValue::text).collect();
            let texts = texts.filter(|texts| !texts.iter().any(|text| text.contains(',')))?;
            texts.join(",").into()
        }
        // Servers take such space off, and would read what no rule has seen.
        value => value.text().filter(|text| text.trim() == text)?,
    };
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

/// Removes a token from where it was; gives the target without it, where it was there.
fn remove(
    found: &FoundToken<'_>,
    headers: &mut HeaderMap,
    head: &RequestHead<'_>,
) -> Option<PathAndQuery> {
    match found.location {
        TokenLocation::Header { name, prefix } => {
            let is_other = |line: &&HeaderValue| {
                without_prefix(line.as_bytes(), prefix.as_bytes()) != Some(&*found.token)
            };
            let others: Vec<_> = headers
                .get_all(name)
                .iter()
                .filter(is_other)
                .cloned()
                .collect();
            headers.remove(name);
            for other in others {
                headers.append(name.clone(), other);
            }
            None
        }
        TokenLocation::Cookie(name) => {
            let lines: Vec<_> = headers.get_all(COOKIE).iter().cloned().collect();
            headers.remove(COOKIE);
            for line in lines {
                let kept = without_cookie(line.as_bytes(), name.as_bytes());
                if let Some(Ok(kept)) = kept.map(|kept| HeaderValue::from_bytes(&kept)) {
                    headers.append(COOKIE, kept);
                }
            }
            None
        }
        TokenLocation::Query(name) => {
            let pairs = head.query.unwrap_or_default().split('&');
            let kept = pairs.filter(|pair| {
                let written = pair.split_once('=').map_or(*pair, |(written, _)| written);
                !is_parameter(written, name)
            });
            let kept: Vec<_> = kept.collect();
            let target = match kept.is_empty() {
                true => head.path.to_owned(),
                false => format!("{}?{}", head.path, kept.join("&")),
            };
            let target = PathAndQuery::try_from(target);
            target.or_else(|_| head.path.try_into()).ok()
        }
    }
}

/// A line of cookies without one of them; `None` where there is none left.
fn without_cookie(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let pairs = line.split(|byte| *byte == b';');
    let kept = pairs.filter(|pair| cookie(pair).is_none_or(|(known, _)| known != name));
    let kept: Vec<_> = kept.map(<[u8]>::trim_ascii).collect();
    let kept: Vec<_> = kept.into_iter().filter(|pair| !pair.is_empty()).collect();
    (!kept.is_empty()).then(|| kept.join(&b"; "[..]))
}
