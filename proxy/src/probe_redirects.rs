//! Redirects that a pod's application has answered to kubelet's probes: kubelet follows them, on
//! the same pod, with the next connection.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery};

use crate::sync::lock;

/// How long kubelet may take to follow: it does so at once.
const LIFETIME: Duration = Duration::from_secs(30);
/// Redirects that are remembered; the oldest go first. A pod has a handful of probes.
const MOST: usize = 64;
/// Longest target that is remembered, in bytes.
const LONGEST: usize = 2048;

/// The redirects of one pod's application to probes, for as long as they may be followed.
#[derive(Debug, Default)]
pub(crate) struct ProbeRedirects(Mutex<VecDeque<ProbeRedirect>>);

#[derive(Debug)]
struct ProbeRedirect {
    port: u16,
    target: Box<str>,
    until: Instant,
}

impl ProbeRedirects {
    /// The application at `port` has redirected a probe to that target.
    pub(crate) fn remember(&self, port: u16, target: &str, now: Instant) {
        let mut redirects = lock(&self.0);
        redirects
            .retain(|known| known.until > now && (known.port != port || &*known.target != target));
        if redirects.len() >= MOST {
            redirects.pop_front();
        }
        redirects.push_back(ProbeRedirect {
            port,
            target: target.into(),
            until: now + LIFETIME,
        });
    }

    /// Whether it has, a moment ago.
    pub(crate) fn lead_to(&self, port: u16, target: &str, now: Instant) -> bool {
        let redirects = lock(&self.0);
        let mut redirects = redirects.iter();
        redirects.any(|known| known.port == port && &*known.target == target && known.until > now)
    }
}

/// The port and request target that kubelet makes of a `Location` (RFC 9110 section 10.2.2) with
/// which a GET of `asked` at `port` was answered, where that is at the same pod: it follows to no
/// other host. It resolves references as RFC 3986 section 5.2 says.
pub(crate) fn redirected_target(
    location: &str,
    asked: &str,
    pod: IpAddr,
    port: u16,
) -> Option<(u16, String)> {
    if location.len() > LONGEST || asked.len() > LONGEST {
        return None;
    }
    let (reference, _fragment) = location.split_once('#').unwrap_or((location, ""));
    let (port, reference) = place(reference, pod, port)?;
    // Of another scheme, such as `mailto:`.
    let first = reference.split(['/', '?']).next().unwrap_or_default();
    if first.contains(':') {
        return None;
    }
    let (path, query) = split_query(&reference);
    let (asked_path, asked_query) = split_query(asked);
    let merged = match (path.as_bytes().first(), query) {
        (None, None) => return Some((port, asked.to_owned())),
        (None, Some(_)) => asked_path.to_owned(),
        (Some(b'/'), _) => path.to_owned(),
        // All of the base's path but what is behind its last slash.
        (Some(_), _) => {
            let folder = asked_path.rfind('/').map_or("", |end| &asked_path[..=end]);
            format!("{folder}{path}")
        }
    };
    let query = match (path.is_empty(), query) {
        (true, None) => asked_query,
        (_, query) => query,
    };
    let mut target = without_dot_segments(&merged);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    // What is no target of a request is none of kubelet's.
    target.parse::<PathAndQuery>().ok().map(|_| (port, target))
}

/// The port that a reference leads to, and what of it is relative to that; none of another host.
fn place(reference: &str, pod: IpAddr, port: u16) -> Option<(u16, String)> {
    let at_authority = match reference.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            Some(scheme.eq_ignore_ascii_case("http").then_some(rest)?)
        }
        _ => reference.strip_prefix("//"),
    };
    let at_authority = match at_authority {
        Some(rest) => Some(at_pod(rest, pod)?),
        None => None,
    };
    Some(match at_authority {
        // Without a path it is the root, whatever was asked for.
        Some((port, path)) if !path.starts_with('/') => (port, format!("/{path}")),
        Some((port, path)) => (port, path.to_owned()),
        None => (port, reference.to_owned()),
    })
}

fn is_scheme(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(is_part)
}

fn split_query(reference: &str) -> (&str, Option<&str>) {
    match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    }
}

/// The port of an authority that is the pod's, and what follows it.
fn at_pod(rest: &str, pod: IpAddr) -> Option<(u16, &str)> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.parse() == Ok(pod)).then_some((authority.port_u16().unwrap_or(80), path))
}

/// RFC 3986 section 5.2.4, of a path from the root.
fn without_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut last = "";
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        match segment {
            "." => {}
            ".." => _ = segments.pop(),
            segment => segments.push(segment),
        }
        last = segment;
    }
    let end = if matches!(last, "." | "..") && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_its_target_for_a_moment() {
        let (redirects, now) = (ProbeRedirects::default(), Instant::now());
        redirects.remember(80, "/login", now);
        assert!(redirects.lead_to(80, "/login", now));
        assert!(!redirects.lead_to(81, "/login", now));
        assert!(!redirects.lead_to(80, "/login/", now));
        assert!(!redirects.lead_to(80, "/login", now + LIFETIME));
    }

    #[test]
    fn no_more_redirects_are_remembered_than_a_pod_needs() {
        let (redirects, now) = (ProbeRedirects::default(), Instant::now());
        for number in 0..1000 {
            redirects.remember(80, "/same", now);
            redirects.remember(80, &format!("/{number}"), now);
        }
        assert_eq!(lock(&redirects.0).len(), MOST);
        assert!(redirects.lead_to(80, "/same", now) && !redirects.lead_to(80, "/0", now));
    }

    #[test]
    fn only_what_is_at_the_same_pod_is_followed() {
        let pod = "10.0.0.7".parse().unwrap();
        let target = |location: &str| redirected_target(location, "/healthz", pod, 8080);
        let is = |port, target: &str| Some((port, target.to_owned()));
        assert_eq!(target("/login?next=a#top"), is(8080, "/login?next=a"));
        assert_eq!(target("http://10.0.0.7:8080/login"), is(8080, "/login"));
        assert_eq!(target("HTTP://10.0.0.7:8081"), is(8081, "/"));
        assert_eq!(target("//10.0.0.7/login"), is(80, "/login"));
        assert_eq!(target("//10.0.0.7?a"), is(80, "/?a"));
        for location in [
            "https://10.0.0.7:8080/login",
            "http://10.0.0.8:8080/login",
            "http://10.0.0.7.example:8080/login",
            "http://10.0.0.7@10.0.0.8/login",
            "//10.0.0.8/login",
            "mailto:admin",
            "/a b",
        ] {
            assert_eq!(target(location), None, "{location}");
        }
        let v6 = "fd00::7".parse().unwrap();
        let v6 = redirected_target("http://[fd00::7]/a", "/", v6, 80);
        assert_eq!(v6, is(80, "/a"));
    }

    #[test]
    fn a_reference_is_resolved_as_kubelet_does() {
        let pod = "10.0.0.7".parse().unwrap();
        // The examples of RFC 3986 section 5.4 that stay at the host.
        for (location, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            (";x", "/b/c/;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            ("..g", "/b/c/..g"),
            ("./g/.", "/b/c/g/"),
            ("g/../h", "/b/c/h"),
            ("g?y/../x", "/b/c/g?y/../x"),
        ] {
            let target = redirected_target(location, "/b/c/d;p?q", pod, 80);
            assert_eq!(target, Some((80, expected.to_owned())), "{location}");
        }
    }
}
