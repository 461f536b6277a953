//! What a rule does to requests and responses.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::BackendTarget;
use super::matching::{PathMatch, strip_path_prefix};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Changes the request's headers.
    RequestHeaders(HeaderModifier),
    /// Changes the response's headers.
    ResponseHeaders(HeaderModifier),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Changes where the request asks for.
    Rewrite(Rewrite),
    /// Sends a copy elsewhere, whose answer is thrown away.
    Mirror(Mirror),
    /// Lets pages of other origins read responses.
    Cors(Cors),
}

/// Changes of headers: set, then add, then remove.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderModifier {
    /// Replaces what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds to what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Takes away.
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

/// A new path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathModifier {
    /// The whole path is this.
    Full(Arc<str>),
    /// The prefix that matched is this instead.
    Prefix(Arc<str>),
}

impl PathModifier {
    /// The path of a request that a rule took because of `matched`.
    pub fn apply(&self, path: &str, matched: &PathMatch) -> String {
        match self {
            Self::Full(full) => full.to_string(),
            Self::Prefix(replacement) => {
                // The webhook and the parser refuse it for other matches.
                let PathMatch::Prefix(prefix) = matched else {
                    return path.to_owned();
                };
                let rest = strip_path_prefix(path, prefix).unwrap_or_default();
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

/// An answer that sends the client elsewhere. What is `None` stays as it was.
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
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// What a client asked for, as far as a redirect keeps it.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'a> {
    /// Host name, without port.
    pub host: &'a str,
    /// The port that the client's connection was made to.
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
        let own = if scheme == "https" { 443 } else { 80 };
        let same_scheme = self.scheme.is_none();
        let port = self
            .port
            .unwrap_or(if same_scheme { target.port } else { own });
        let host = self.hostname.as_deref().unwrap_or(target.host);
        let path = match &self.path {
            Some(path) => path.apply(target.path, matched),
            None => target.path.to_owned(),
        };
        let mut location = format!("{scheme}://{host}");
        if port != own {
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

/// Changes where a request asks for. What is `None` stays as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rewrite {
    /// `Host`.
    pub hostname: Option<HeaderValue>,
    /// Path.
    pub path: Option<PathModifier>,
}

/// Where copies of requests go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Where to.
    pub target: BackendTarget,
    /// How many of the requests, as a part of `denominator`.
    pub numerator: u32,
    /// Not zero.
    pub denominator: u32,
}

impl Mirror {
    /// Whether a request is copied; `draw` is evenly distributed in 0..1.
    pub fn selects(&self, draw: f64) -> bool {
        draw * f64::from(self.denominator) < f64::from(self.numerator)
    }
}

/// Cross-origin resource sharing (Fetch Standard, "CORS protocol"; GEP-1767).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cors {
    /// Origins that may read; `*` for all, or with `*.` in front of a domain.
    pub allow_origins: Vec<Arc<str>>,
    /// Whether with the user's credentials.
    pub allow_credentials: bool,
    /// Methods; `*` for all.
    pub allow_methods: Vec<Arc<str>>,
    /// Request headers; `*` for all.
    pub allow_headers: Vec<Arc<str>>,
    /// Response headers that may be read; `*` for all.
    pub expose_headers: Vec<Arc<str>>,
    /// How long a browser may remember.
    pub max_age: Duration,
}

impl Cors {
    /// What is answered to a browser that asks before it sends a request: headers of an
    /// empty response. `None` when this is no such question.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<HeaderMap> {
        let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = headers.get(ORIGIN).filter(|_| *method == Method::OPTIONS)?;
        let mut answer = HeaderMap::new();
        if !self.allows(origin) {
            return Some(answer);
        }
        self.allow_origin(origin, &mut answer);
        let methods = self.list(&self.allow_methods, Some(asked));
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        let allowed = self.list(&self.allow_headers, wanted);
        put(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, methods);
        put(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        let seconds = HeaderValue::from(self.max_age.as_secs());
        answer.insert(ACCESS_CONTROL_MAX_AGE, seconds);
        Some(answer)
    }

    /// Says to a browser who may read a response to a request with these headers. What
    /// the application said itself doesn't count any more.
    pub fn apply(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        response.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        response.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        response.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        if let Some(origin) = origin.filter(|origin| self.allows(origin)) {
            self.allow_origin(origin, response);
            let exposed = self.list(&self.expose_headers, None);
            put(response, ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        self.allow_origins.iter().any(|allowed| {
            match allowed.split_once('*') {
                None => allowed.eq_ignore_ascii_case(origin),
                Some(("", "")) => true,
                // At least one label stands for the star.
                Some((before, after)) => {
                    let rest = origin.strip_prefix(before);
                    let middle = rest.and_then(|rest| rest.strip_suffix(after));
                    middle.is_some_and(|label| !label.is_empty() && !label.contains('/'))
                }
            }
        })
    }

    fn allow_origin(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        let all = self.allow_origins.iter().any(|allowed| **allowed == *"*");
        // Browsers take no star together with credentials.
        let value = match all && !self.allow_credentials {
            true => HeaderValue::from_static("*"),
            false => origin.clone(),
        };
        if self.allow_credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if value == origin {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
    }

    /// A list as a header's value; a star becomes what was asked for where browsers take
    /// no star.
    fn list(&self, names: &[Arc<str>], asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        let all = names.iter().any(|name| **name == *"*");
        match asked {
            Some(asked) if all && self.allow_credentials => Some(asked.clone()),
            _ if names.is_empty() => None,
            _ => HeaderValue::from_str(&names.join(", ")).ok(),
        }
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value);
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
        let asked = RequestTarget {
            host: "web",
            port: 80,
            path: "/a/b",
            query: Some("q=1"),
        };
        let matched = PathMatch::Prefix("/a".into());
        let location = |redirect: &Redirect, port| {
            redirect.location(&RequestTarget { port, ..asked }, &matched)
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

    fn cors(origins: &[&str], allow_credentials: bool) -> Cors {
        Cors {
            allow_origins: origins.iter().map(|&origin| origin.into()).collect(),
            allow_credentials,
            allow_methods: vec!["*".into()],
            allow_headers: vec!["x-a".into(), "x-b".into()],
            expose_headers: Vec::new(),
            max_age: Duration::from_secs(5),
        }
    }

    #[test]
    fn only_origins_that_are_allowed_are_told_so() {
        let origin = |text: &'static str| HeaderValue::from_static(text);
        let some = cors(&["https://a.org", "https://*.b.org"], true);
        for allowed in ["https://a.org", "https://x.b.org", "https://x.y.b.org"] {
            let mut headers = HeaderMap::new();
            some.apply(Some(&origin(allowed)), &mut headers);
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], allowed);
        }
        for refused in [
            "http://a.org",
            "https://.b.org",
            "https://b.org",
            "null",
            "https://evil/.b.org",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin("*"));
            some.apply(Some(&origin(refused)), &mut headers);
            assert!(headers.is_empty(), "{refused}");
        }
    }

    #[test]
    fn a_question_before_a_request_is_answered_and_nothing_else() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("https://a.org"));
        let all = cors(&["*"], false);
        assert!(all.preflight(&Method::OPTIONS, &headers).is_none());
        let put = HeaderValue::from_static("PUT");
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, put);
        assert!(all.preflight(&Method::PUT, &headers).is_none());
        let answer = all.preflight(&Method::OPTIONS, &headers).unwrap();
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "*");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-a, x-b");
        assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "5");
        let credentials = cors(&["*"], true);
        let answer = credentials.preflight(&Method::OPTIONS, &headers).unwrap();
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.org");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        let other = cors(&["https://b.org"], true);
        let answer = other.preflight(&Method::OPTIONS, &headers).unwrap();
        assert!(answer.is_empty());
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
