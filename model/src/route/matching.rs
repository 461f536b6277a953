//! Matches: which requests a rule is for, and which of several matches counts.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

/// The parts of a request that matches look at.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path as it was sent, without the query.
    pub path: &'a str,
    /// Query, without the `?`.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// A regular expression, anchored at both ends: it matches the whole value, as in every
/// mesh that follows RE2. It takes linear time, whatever the value.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

/// A text that is no regular expression.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{pattern}` is not a regular expression: {reason}")]
pub struct InvalidPattern {
    pattern: String,
    reason: String,
}

/// The most memory that one compiled pattern may take, in bytes.
const MAX_PATTERN_SIZE: usize = 1024 * 1024;

impl Pattern {
    /// The pattern of that text.
    ///
    /// # Errors
    /// When it isn't one, or would take too much memory.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = |error: regex::Error| InvalidPattern {
            pattern: text.to_owned(),
            reason: error.to_string(),
        };
        // On its own first: `a)(b` must not become valid by what is put around it.
        Regex::new(text).map_err(invalid)?;
        let regex = regex::RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(MAX_PATTERN_SIZE)
            .build();
        Ok(Self {
            text: text.into(),
            regex: regex.map_err(invalid)?,
        })
    }

    /// The text of the pattern, without the anchors.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// Condition on a request's path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// A prefix of the path, of which elements are compared as a whole.
    Prefix(Arc<str>),
    /// A pattern of the whole path.
    Regex(Pattern),
    /// `/service/method` of gRPC, exactly; any where `None`.
    Grpc {
        /// Package and name of the service.
        service: Option<Arc<str>>,
        /// Name of the method.
        method: Option<Arc<str>>,
    },
    /// `/service/method` of gRPC, by patterns; any where `None`.
    GrpcRegex {
        /// Pattern of the service.
        service: Option<Pattern>,
        /// Pattern of the method.
        method: Option<Pattern>,
    },
}

/// Condition on the value of a header or of a query parameter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ValueMatch {
    /// The whole value.
    Exact(Arc<str>),
    /// A pattern of the whole value.
    Regex(Pattern),
}

/// A match: conditions that a request has to fulfil all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestMatch {
    /// Condition on the path.
    pub path: PathMatch,
    /// Method; any when `None`.
    pub method: Option<Method>,
    /// Headers that it has to have, with conditions on their values.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters that it has to have, with conditions on their values.
    pub query: Vec<(Arc<str>, ValueMatch)>,
}

impl Default for RequestMatch {
    /// Matches everything, as a rule without matches does.
    fn default() -> Self {
        Self {
            path: PathMatch::Prefix("/".into()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}

impl RequestMatch {
    /// Whether the request fulfils all conditions.
    pub fn matches(&self, request: &RequestHead<'_>) -> bool {
        let method = self.method.as_ref();
        method.is_none_or(|method| method == request.method)
            && self.path.matches(request.path)
            && self
                .headers
                .iter()
                .all(|header| has_header(request, header))
            && self
                .query
                .iter()
                .all(|parameter| has_query_parameter(request, parameter))
    }

    /// Order of two matches that one request fulfils: the one that is `Less` counts first
    /// (HTTPRouteRule and GRPCRouteRule in the Gateway API). Ties are left to the age of the
    /// routes.
    pub fn compare_precedence(&self, other: &Self) -> Ordering {
        let rank = |matching: &Self| {
            let method = u8::from(matching.method.is_some());
            let counts = (method, matching.headers.len(), matching.query.len());
            (matching.path.rank(), counts)
        };
        rank(other).cmp(&rank(self))
    }
}

impl PathMatch {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => strip_path_prefix(path, prefix).is_some(),
            Self::Regex(pattern) => pattern.matches(path),
            Self::Grpc { service, method } => {
                let is = |expected: &Option<Arc<str>>, part: &str| {
                    expected.as_ref().is_none_or(|expected| **expected == *part)
                };
                let call = split_grpc_path(path);
                call.is_some_and(|(s, m)| is(service, s) && is(method, m))
            }
            Self::GrpcRegex { service, method } => {
                let is = |pattern: &Option<Pattern>, part: &str| {
                    pattern.as_ref().is_none_or(|pattern| pattern.matches(part))
                };
                let call = split_grpc_path(path);
                call.is_some_and(|(s, m)| is(service, s) && is(method, m))
            }
        }
    }

    /// Exact before prefix, a long prefix before a short one, a pattern by its length
    /// among the prefixes; of gRPC's, the longer service first, then the longer method.
    fn rank(&self) -> (bool, usize, usize) {
        let pattern = |pattern: &Option<Pattern>| pattern.as_ref().map_or(0, |p| p.text.len());
        let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Self::Exact(path) => (true, path.len(), 0),
            Self::Prefix(prefix) => (false, prefix.len(), 0),
            Self::Regex(pattern) => (false, pattern.text.len(), 0),
            // Any call: whatever names one comes first.
            Self::Grpc {
                service: None,
                method: None,
            } => (false, 0, 0),
            Self::Grpc { service, method } => (true, length(service), length(method)),
            Self::GrpcRegex { service, method } => (false, pattern(service), pattern(method)),
        }
    }
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *value,
            Self::Regex(pattern) => pattern.matches(value),
        }
    }
}

/// The rest of a path below a prefix, when it lies there: `/a/b` is below `/a` and below
/// `/a/`, `/ab` is not.
pub(super) fn strip_path_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Service and method of a gRPC request's path.
fn split_grpc_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/')
}

/// Whether two values of Host are the same, as a server takes them: names without regard to case
/// and to the dot of an absolute one, and a port that the rule doesn't name is any.
fn is_same_host(expected: &str, value: &str) -> bool {
    let (expected, expected_port) = split_port(expected);
    let (name, port) = split_port(value);
    let relative = |name: &'_ str| name.len() - usize::from(name.ends_with('.'));
    let (expected, name) = (&expected[..relative(expected)], &name[..relative(name)]);
    expected.eq_ignore_ascii_case(name) && (expected_port.is_none() || expected_port == port)
}

/// Name and port of `name[:port]`.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        // Colons of an IPv6 address are within brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}

/// Whether a request has a header. Several lines of one name count as one value
/// (RFC 9110 section 5.3), as whoever sends them may join them.
fn has_header(request: &RequestHead<'_>, (name, expected): &(HeaderName, ValueMatch)) -> bool {
    let mut values = request.headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return false;
    };
    if let (true, ValueMatch::Exact(expected), Ok(host)) = (*name == HOST, expected, first.to_str())
    {
        return values.next().is_none() && is_same_host(expected, host);
    }
    let text =
        |value: &'_ http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    match (values.next(), first.to_str()) {
        (None, Ok(single)) => expected.matches(single),
        (None, Err(_)) => expected.matches(&text(first)),
        (Some(second), _) => {
            let mut joined = text(first);
            for value in std::iter::once(second).chain(values) {
                joined.push(',');
                joined.push_str(&text(value));
            }
            expected.matches(&joined)
        }
    }
}

/// Whether a request's query has a parameter. Of several of one name, the first counts.
fn has_query_parameter(
    request: &RequestHead<'_>,
    (name, expected): &(Arc<str>, ValueMatch),
) -> bool {
    let mut pairs = request.query.unwrap_or_default().split('&');
    let found = pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_query_component(key) == **name).then_some(value)
    });
    found.is_some_and(|value| expected.matches(&decode_query_component(value)))
}

/// The value of a part of a query: `%41` is `A`, `+` is a space
/// (application/x-www-form-urlencoded). What is no such sequence stands for itself.
fn decode_query_component(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |index: usize| after.get(index).and_then(|b| char::from(*b).to_digit(16));
        let (byte, used) = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).unwrap_or(b'%'), 2),
            (b'+', _, _) => (b' ', 0),
            _ => (first, 0),
        };
        bytes.push(byte);
        rest = &after[used..];
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path_of(matching: PathMatch, path: &str) -> bool {
        matching.matches(path)
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(text.into())
    }

    #[test]
    fn a_prefix_is_compared_by_elements() {
        for path in ["/a", "/a/", "/a/b"] {
            assert!(path_of(prefix("/a"), path), "{path}");
        }
        assert!(path_of(prefix("/a/"), "/a/b") && path_of(prefix("/a/"), "/a"));
        for path in ["/ab", "/", "/A", "/b/a"] {
            assert!(!path_of(prefix("/a"), path), "{path}");
        }
        assert!(path_of(prefix("/"), "/anything") && path_of(prefix("/"), "*"));
    }

    #[test]
    fn a_pattern_matches_the_whole_value() {
        let pattern = Pattern::new("/a|/b+").unwrap();
        assert!(pattern.matches("/a") && pattern.matches("/bbb"));
        assert!(!pattern.matches("/ab") && !pattern.matches("x/a"));
        assert!(Pattern::new("a)(b").is_err(), "only by what is put around");
        let error = Pattern::new("(").unwrap_err().to_string();
        assert!(error.contains("`(`"), "{error}");
        assert!(Pattern::new(r"\w{1000}{1000}").is_err(), "too large");
    }

    #[test]
    fn calls_of_grpc_match_by_service_and_method() {
        let call = |service: Option<&str>, method: Option<&str>| PathMatch::Grpc {
            service: service.map(Into::into),
            method: method.map(Into::into),
        };
        assert!(path_of(call(Some("a.B"), Some("C")), "/a.B/C"));
        assert!(path_of(call(Some("a.B"), None), "/a.B/D"));
        assert!(path_of(call(None, Some("C")), "/x/C"));
        assert!(!path_of(call(Some("a.B"), None), "/a.Bc/D"));
        assert!(!path_of(call(None, None), "no-call"));
    }

    #[test]
    fn headers_and_queries_match_by_value() {
        let exact = |text: &str| ValueMatch::Exact(text.into());
        let mut headers = HeaderMap::new();
        headers.append("tag", "a".parse().unwrap());
        let mut matching = RequestMatch {
            headers: vec![(HeaderName::from_static("tag"), exact("a"))],
            query: vec![("q".into(), exact("x y&z"))],
            ..RequestMatch::default()
        };
        let matches = |matching: &RequestMatch, headers: &HeaderMap, query| {
            matching.matches(&RequestHead {
                method: &Method::GET,
                path: "/",
                query,
                headers,
            })
        };
        assert!(matches(&matching, &headers, Some("a&q=x+y%26z&q=2")));
        assert!(!matches(&matching, &headers, Some("q=2&q=x+y%26z")));
        assert!(!matches(&matching, &headers, None));
        headers.append("tag", "b".parse().unwrap());
        assert!(!matches(&matching, &headers, Some("q=x%20y%26z")));
        matching.headers[0].1 = exact("a,b");
        assert!(matches(&matching, &headers, Some("q=x%20y%26z")));
        matching.method = Some(Method::POST);
        assert!(!matches(&matching, &headers, Some("q=x%20y%26z")));
    }

    #[test]
    fn a_host_is_compared_as_a_server_takes_it() {
        for (expected, host, is_same) in [
            ("web", "web", true),
            ("web", "WEB", true),
            ("web.shop", "web.Shop.", true),
            ("web", "web:8080", true),
            ("web:80", "web:80", true),
            ("web:80", "Web.:80", true),
            ("web:80", "web:8080", false),
            ("web:80", "web", false),
            ("web", "webs", false),
            ("web", "", false),
            ("[fd00::1]", "[FD00::1]:80", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            let head = RequestHead {
                method: &Method::GET,
                path: "/",
                query: None,
                headers: &headers,
            };
            let matching = RequestMatch {
                headers: vec![(HOST, ValueMatch::Exact(expected.into()))],
                ..RequestMatch::default()
            };
            assert_eq!(matching.matches(&head), is_same, "{expected} {host}");
        }
    }

    #[test]
    fn the_more_specific_match_comes_first() {
        let of = |path: PathMatch| RequestMatch {
            path,
            ..RequestMatch::default()
        };
        let get = RequestMatch {
            method: Some(Method::GET),
            ..of(prefix("/a"))
        };
        let header = RequestMatch {
            headers: vec![(HeaderName::from_static("x"), ValueMatch::Exact("1".into()))],
            ..of(prefix("/a"))
        };
        let query = RequestMatch {
            query: vec![("x".into(), ValueMatch::Exact("1".into()))],
            ..of(prefix("/a"))
        };
        let order = [
            of(PathMatch::Exact("/a".into())),
            of(prefix("/a/b")),
            get,
            header,
            query,
            of(prefix("/a")),
            RequestMatch::default(),
        ];
        for (index, first) in order.iter().enumerate() {
            for (other, second) in order.iter().enumerate() {
                assert_eq!(first.compare_precedence(second), index.cmp(&other));
            }
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics_and_plain_text_stays(text in any::<String>()) {
            let plain: String = text.chars().filter(|c| !"%+".contains(*c)).collect();
            prop_assert_eq!(decode_query_component(&plain), plain.as_str());
            let _ = decode_query_component(&text);
        }

        #[test]
        fn below_a_prefix_is_what_follows_it(prefix in "(/[a-c]{1,2}){0,2}/?", path in "(/[a-c]{1,2}){0,4}") {
            if let Some(rest) = strip_path_prefix(&path, &prefix) {
                let shared = prefix.strip_suffix('/').unwrap_or(&prefix);
                prop_assert_eq!(format!("{shared}{rest}"), path);
            }
        }
    }
}
