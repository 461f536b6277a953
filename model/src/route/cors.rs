//! Cross-origin resource sharing: which pages may read a Service's responses.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Cross-origin resource sharing (Fetch Standard, "CORS protocol"; GEP-1767).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cors {
    /// Origins that may read responses; `*` for all, or with `*.` in front of a domain.
    pub allow_origins: Vec<Arc<str>>,
    /// Whether browsers may send the user's credentials along.
    pub allow_credentials: bool,
    /// Methods that may be used; `*` for all.
    pub allow_methods: Vec<Arc<str>>,
    /// Request headers that may be sent; `*` for all.
    pub allow_headers: Vec<Arc<str>>,
    /// Response headers that may be read; `*` for all.
    pub expose_headers: Vec<Arc<str>>,
    /// Time that a browser may remember the response to a preflight for.
    pub max_age: Duration,
}

impl Cors {
    /// The headers of the empty response to a preflight, by which a browser asks before it
    /// sends a request. `None` when the request is none.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<HeaderMap> {
        let method_asked_for = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = headers.get(ORIGIN).filter(|_| *method == Method::OPTIONS)?;
        let mut response = HeaderMap::new();
        if !self.allows(origin) {
            return Some(response);
        }
        self.set_allowed_origin(origin, &mut response);
        let methods = self.list_value(&self.allow_methods, Some(method_asked_for));
        let headers_asked_for = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        let allowed = self.list_value(&self.allow_headers, headers_asked_for);
        insert_some(&mut response, ACCESS_CONTROL_ALLOW_METHODS, methods);
        insert_some(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        let seconds = HeaderValue::from(self.max_age.as_secs());
        response.insert(ACCESS_CONTROL_MAX_AGE, seconds);
        Some(response)
    }

    /// Sets the headers of a response that tell a browser whether a page of `origin` may
    /// read it. Those that the application set itself are removed.
    pub fn apply(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        response.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        response.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        response.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        if let Some(origin) = origin.filter(|origin| self.allows(origin)) {
            self.set_allowed_origin(origin, response);
            let exposed = self.list_value(&self.expose_headers, None);
            insert_some(response, ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
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

    fn set_allowed_origin(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
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

    /// A list as the value of a header; a star becomes what the browser asked for where
    /// browsers take no star.
    fn list_value(
        &self,
        names: &[Arc<str>],
        asked_for: Option<&HeaderValue>,
    ) -> Option<HeaderValue> {
        let all = names.iter().any(|name| **name == *"*");
        match asked_for {
            Some(asked_for) if all && self.allow_credentials => Some(asked_for.clone()),
            _ if names.is_empty() => None,
            _ => HeaderValue::from_str(&names.join(", ")).ok(),
        }
    }
}

fn insert_some(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_preflight_is_answered_and_nothing_else() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("https://a.org"));
        let all = cors(&["*"], false);
        assert!(all.preflight(&Method::OPTIONS, &headers).is_none());
        let put = HeaderValue::from_static("PUT");
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, put);
        assert!(all.preflight(&Method::PUT, &headers).is_none());
        let response = all.preflight(&Method::OPTIONS, &headers).unwrap();
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_METHODS], "*");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_HEADERS], "x-a, x-b");
        assert_eq!(response[ACCESS_CONTROL_MAX_AGE], "5");
        let credentials = cors(&["*"], true);
        let response = credentials.preflight(&Method::OPTIONS, &headers).unwrap();
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.org");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        let other = cors(&["https://b.org"], true);
        let response = other.preflight(&Method::OPTIONS, &headers).unwrap();
        assert!(response.is_empty());
    }
}
