//! Filters: what a rule does to requests and responses.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::route::backend::BackendTarget;
use crate::route::cors::Cors;
use crate::route::matching::{PathMatch, strip_path_prefix};
use crate::route::path::normalized_path;

/// One filter of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Changes the request's headers.
    RequestHeaders(HeaderModifier),
    /// Changes the response's headers.
    ResponseHeaders(HeaderModifier),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Changes the host or the path that the request asks for.
    Rewrite(Rewrite),
    /// Sends a copy elsewhere, whose response is thrown away.
    Mirror(Mirror),
    /// Lets pages of other origins read responses.
    Cors(Cors),
}

/// Changes of headers: set, then add, then remove.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderModifier {
    /// Headers that replace those of their name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers that are added to those of their name.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Names of headers that are removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderModifier {
    /// Makes the changes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// Replacement of a request's path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathModifier {
    /// Replacement of the whole path.
    Full(Arc<str>),
    /// Replacement of the prefix that matched.
    Prefix(Arc<str>),
}

impl PathModifier {
    /// The new path of a request which a rule is for because of `matched`.
    pub fn apply(&self, path: &str, matched: &PathMatch) -> String {
        match self {
            Self::Full(full) => full.to_string(),
            Self::Prefix(replacement) => {
                // The webhook and the parser refuse it for other matches.
                let PathMatch::Prefix(prefix) = matched else {
                    return path.to_owned();
                };
                // The form in which it matched.
                let path = normalized_path(path);
                let rest = strip_path_prefix(&path, prefix).unwrap_or_default();
                if rest.is_empty() && !replacement.is_empty() {
                    return replacement.to_string();
                }
                let kept = replacement.strip_suffix('/').unwrap_or(replacement);
                match format!("{kept}{rest}") {
                    empty if empty.is_empty() => "/".to_owned(),
                    path => path,
                }
            }
        }
    }
}

/// A redirect: a response that sends the client elsewhere. What is `None` stays as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host name.
    pub hostname: Option<Arc<str>>,
    /// Path.
    pub path: Option<PathModifier>,
    /// Port.
    pub port: Option<u16>,
    /// Status of the response: 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// Target of a request, as far as a redirect keeps it.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'a> {
    /// Host name, without port.
    pub host: &'a str,
    /// Port that the client's connection was made to.
    pub port: u16,
    /// Path, without query.
    pub path: &'a str,
    /// Query, without the `?`.
    pub query: Option<&'a str>,
}

impl Redirect {
    /// The value of `Location`. The port is left out where it is the scheme's own.
    pub fn location(&self, target: &RequestTarget<'_>, matched: &PathMatch) -> String {
        let scheme = self.scheme.as_deref().unwrap_or("http");
        let default_port = if scheme == "https" { 443 } else { 80 };
        let kept_port = match self.scheme {
            Some(_) => default_port,
            None => target.port,
        };
        let port = self.port.unwrap_or(kept_port);
        let host = self.hostname.as_deref().unwrap_or(target.host);
        let path = match &self.path {
            Some(path) => path.apply(target.path, matched),
            None => target.path.to_owned(),
        };
        let mut location = format!("{scheme}://{host}");
        if port != default_port {
            location.push_str(&format!(":{port}"));
        }
        location.push_str(&path);
        if let Some(query) = target.query {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

/// A rewrite of a request's target. What is `None` stays as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rewrite {
    /// Value of `Host`.
    pub hostname: Option<HeaderValue>,
    /// Path.
    pub path: Option<PathModifier>,
}

/// A mirror: copies of a share of the requests, whose responses are thrown away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Target of the copies.
    pub target: BackendTarget,
    /// Share of the requests that is copied, as a part of `denominator`.
    pub numerator: u32,
    /// Denominator of the share; not zero.
    pub denominator: u32,
}

impl Mirror {
    /// Whether a request is copied; `draw` is a number from 0 up to 1.
    pub fn selects(&self, draw: f64) -> bool {
        draw * f64::from(self.denominator) < f64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(path: &str, prefix: &str, replacement: &str) -> String {
        PathModifier::Prefix(replacement.into()).apply(path, &PathMatch::Prefix(prefix.into()))
    }

    /// The table in the documentation of HTTPPathModifier.
    #[test]
    fn prefixes_are_replaced_as_the_gateway_api_says() {
        for (path, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            // Matched by another spelling of the path.
            ("//foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/a/../%66oo/bar", "/foo", "/xyz", "/xyz/bar"),
        ] {
            let seen = rewritten(path, prefix, replacement);
            assert_eq!(seen, expected, "{path} {prefix} {replacement}");
        }
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_change() {
        let redirect = Redirect {
            scheme: None,
            hostname: None,
            path: None,
            port: None,
            status: StatusCode::FOUND,
        };
        let target = RequestTarget {
            host: "web",
            port: 80,
            path: "/a/b",
            query: Some("q=1"),
        };
        let matched = PathMatch::Prefix("/a".into());
        let location = |redirect: &Redirect, port| {
            redirect.location(&RequestTarget { port, ..target }, &matched)
        };
        assert_eq!(location(&redirect, 80), "http://web/a/b?q=1");
        assert_eq!(location(&redirect, 8080), "http://web:8080/a/b?q=1");
        let https = Redirect {
            scheme: Some("https".into()),
            ..redirect.clone()
        };
        assert_eq!(location(&https, 8080), "https://web/a/b?q=1");
        let all = Redirect {
            scheme: Some("https".into()),
            hostname: Some("example.org".into()),
            path: Some(PathModifier::Prefix("/z".into())),
            port: Some(80),
            ..redirect
        };
        assert_eq!(location(&all, 80), "https://example.org:80/z/b?q=1");
    }

    #[test]
    fn headers_are_set_added_and_removed() {
        let pair = |name: &'static str, value: &'static str| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let modifier = HeaderModifier {
            set: vec![pair("a", "new")],
            add: vec![pair("b", "more")],
            remove: vec![HeaderName::from_static("c")],
        };
        let mut headers: HeaderMap = [pair("a", "1"), pair("b", "2"), pair("c", "3")]
            .into_iter()
            .collect();
        modifier.apply(&mut headers);
        let all: Vec<_> = headers.get_all("b").iter().collect();
        assert_eq!((headers["a"].as_bytes(), all.len()), (&b"new"[..], 2));
        assert!(!headers.contains_key("c"));
    }

    #[test]
    fn a_share_of_the_requests_is_mirrored() {
        let mirror = Mirror {
            target: BackendTarget::Invalid { reason: "".into() },
            numerator: 1,
            denominator: 4,
        };
        assert!(mirror.selects(0.0) && mirror.selects(0.2499));
        assert!(!mirror.selects(0.25) && !mirror.selects(0.99));
    }
}
