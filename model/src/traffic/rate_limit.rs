//! Global rate limits: the descriptors that a rate limit service is asked about, and the
//! limits that it counts against (`envoy.service.ratelimit.v3`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};

use crate::identity::SpiffeId;
use crate::name::NamespacedName;
use crate::route::path::PathNormalization;
use crate::traffic::token_bucket::LocalRateLimit;

/// Global rate limit of a TrafficPolicy: what a rate limit service is asked before a request
/// is sent (`envoy.service.ratelimit.v3`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GlobalRateLimit {
    /// Rate limit service: a Service and its port; the control plane's own when `None`.
    pub server: Option<(NamespacedName, u16)>,
    /// Domain of the limits.
    pub domain: Arc<str>,
    /// Descriptors, a list of entries each; the request is refused when any of them is over
    /// its limit. One is left out where the request lacks what an entry is made of.
    pub descriptors: Vec<Vec<DescriptorEntry>>,
    /// Limit of each descriptor that is sent along; the server's own when `None`.
    pub limit: Option<LocalRateLimit>,
    /// Time that the server may take.
    pub timeout: Duration,
    /// Whether requests are let through when the server doesn't answer.
    pub fail_open: bool,
}

/// One entry of a descriptor: a key, and the source of its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DescriptorEntry {
    /// The same value for all requests.
    Generic {
        /// Key.
        key: Arc<str>,
        /// Value.
        value: Arc<str>,
    },
    /// The value of a header.
    Header {
        /// Key.
        key: Arc<str>,
        /// Name of the header.
        header: HeaderName,
    },
    /// `source_identity`: the client's SPIFFE ID, so that each client is counted by itself.
    SourceIdentity,
    /// `path`: the request's path, without query, in the forms that routes compare.
    Path,
    /// `method`: the request's method.
    Method,
}

/// Key of [`DescriptorEntry::SourceIdentity`].
pub const SOURCE_IDENTITY_KEY: &str = "source_identity";
/// Key of [`DescriptorEntry::Path`].
pub const PATH_KEY: &str = "path";
/// Key of [`DescriptorEntry::Method`].
pub const METHOD_KEY: &str = "method";

/// The attributes of a request that descriptors are made of.
#[derive(Clone, Copy, Debug)]
pub struct RequestAttributes<'a> {
    /// Identity of the client; `None` when it has proven none.
    pub source: Option<&'a SpiffeId>,
    /// Method.
    pub method: &'a Method,
    /// Path, with or without query.
    pub path: &'a str,
    /// The form in which paths are compared.
    pub path_normalization: PathNormalization,
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// Descriptor: the pairs of key and value that requests share which are counted together.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Descriptor {
    /// Keys and values, in order.
    pub entries: Vec<(String, String)>,
}

/// The descriptors of a request that a rate limit service is asked about; none when the
/// request lacks what each of them is made of. Of a path that servers read in several ways each
/// counts, so that none leads around a limit.
pub fn request_descriptors(
    limit: &GlobalRateLimit,
    request: &RequestAttributes<'_>,
) -> Vec<Descriptor> {
    let path = without_query(request.path);
    let paths = request.path_normalization.compared_paths(path);
    let mut descriptors = Vec::new();
    for list in &limit.descriptors {
        let is_about_path = list.contains(&DescriptorEntry::Path);
        for path in paths
            .iter()
            .take(if is_about_path { paths.len() } else { 1 })
        {
            let pairs = list.iter().map(|entry| pair(entry, request, path));
            let entries: Option<Vec<_>> = pairs.collect();
            if let Some(entries) = entries.filter(|entries| !entries.is_empty()) {
                descriptors.push(Descriptor { entries });
            }
        }
    }
    descriptors
}

fn pair(
    entry: &DescriptorEntry,
    request: &RequestAttributes<'_>,
    path: &str,
) -> Option<(String, String)> {
    let (key, value) = match entry {
        DescriptorEntry::Generic { key, value } => (&**key, value.to_string()),
        DescriptorEntry::Header { key, header } => (&**key, header_value(request.headers, header)?),
        DescriptorEntry::SourceIdentity => (SOURCE_IDENTITY_KEY, request.source?.to_string()),
        DescriptorEntry::Path => (PATH_KEY, path.to_owned()),
        DescriptorEntry::Method => (METHOD_KEY, request.method.to_string()),
    };
    Some((key.to_owned(), value))
}

/// Several lines of a header are one list (RFC 9110 5.3). What isn't UTF-8 is counted
/// all the same: garbage is no way around a limit.
fn header_value(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// Unit of time that limits are counted in. A month has 30 days and a year 365, as
/// Envoy's own server counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RateLimitUnit {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// Seven days.
    Week,
    /// Thirty days.
    Month,
    /// 365 days.
    Year,
}

impl RateLimitUnit {
    /// All of them, the shortest first.
    pub const ALL: [Self; 7] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Year,
    ];

    /// Length of the unit in seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }

    /// The unit that is as long as the interval, if there is one.
    pub fn from_interval(interval: Duration) -> Option<Self> {
        let exact = |unit: &Self| Duration::from_secs(unit.seconds()) == interval;
        Self::ALL.into_iter().find(exact)
    }

    /// Name of the unit, such as `second`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Beginning of the window that a moment is in; both in seconds since 1970.
    pub fn window_start(self, now: u64) -> u64 {
        now - now % self.seconds()
    }

    /// Seconds from a moment (in seconds since 1970) to the next window; at least 1.
    pub fn seconds_until_reset(self, now: u64) -> u64 {
        self.seconds() - now % self.seconds()
    }
}

/// Limit of a descriptor: a number of requests in each unit of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestLimit {
    /// Number of requests.
    pub requests: u32,
    /// Unit of time.
    pub unit: RateLimitUnit,
}

impl RequestLimit {
    /// The limit as the protocol can express it. An interval that is no unit is counted in
    /// the next longer one, at the same rate.
    pub fn from_local_limit(limit: &LocalRateLimit) -> Self {
        let longer = |unit: &RateLimitUnit| Duration::from_secs(unit.seconds()) >= limit.interval;
        let unit = RateLimitUnit::ALL
            .into_iter()
            .find(longer)
            .unwrap_or(RateLimitUnit::Year);
        let (interval, unit_nanos) = (
            limit.interval.as_nanos().max(1),
            u128::from(unit.seconds()) * 1_000_000_000,
        );
        let scaled = (u128::from(limit.requests) * unit_nanos).div_ceil(interval);
        Self {
            requests: u32::try_from(scaled).unwrap_or(u32::MAX),
            unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn limit(descriptors: Vec<Vec<DescriptorEntry>>) -> GlobalRateLimit {
        GlobalRateLimit {
            server: None,
            domain: "shop".into(),
            descriptors,
            limit: None,
            timeout: Duration::from_millis(20),
            fail_open: true,
        }
    }

    fn generic(key: &str, value: &str) -> DescriptorEntry {
        DescriptorEntry::Generic {
            key: key.into(),
            value: value.into(),
        }
    }

    fn header(key: &str, header: &'static str) -> DescriptorEntry {
        DescriptorEntry::Header {
            key: key.into(),
            header: HeaderName::from_static(header),
        }
    }

    fn pairs_of(
        limit: &GlobalRateLimit,
        request: &RequestAttributes<'_>,
    ) -> Vec<Vec<(String, String)>> {
        let all = request_descriptors(limit, request).into_iter();
        all.map(|descriptor| descriptor.entries).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn each_list_becomes_a_descriptor_with_its_pairs_in_order() {
        let source = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("ann"));
        let request = RequestAttributes {
            source: Some(&source),
            method: &Method::POST,
            path: "/buy?item=1",
            path_normalization: PathNormalization::Strict,
            headers: &headers,
        };
        let limit = limit(vec![
            vec![generic("service", "shop"), DescriptorEntry::SourceIdentity],
            vec![DescriptorEntry::Method, DescriptorEntry::Path],
            vec![header("user", "x-user")],
        ]);
        let expected = vec![
            pairs(&[
                ("service", "shop"),
                ("source_identity", "spiffe://cluster.local/ns/shop/sa/web"),
            ]),
            pairs(&[("method", "POST"), ("path", "/buy")]),
            pairs(&[("user", "ann")]),
        ];
        assert_eq!(pairs_of(&limit, &request), expected);
    }

    #[test]
    fn no_way_to_write_a_path_leads_around_its_limit() {
        let headers = HeaderMap::new();
        let limit = limit(vec![
            vec![generic("service", "shop")],
            vec![DescriptorEntry::Path],
        ]);
        let paths_of = |path: &str, path_normalization| {
            let request = RequestAttributes {
                source: None,
                method: &Method::GET,
                path,
                path_normalization,
                headers: &headers,
            };
            let pairs = pairs_of(&limit, &request).into_iter().flatten();
            let of_path = pairs.filter(|(key, _)| key == PATH_KEY);
            of_path.map(|(_, path)| path).collect::<Vec<_>>()
        };
        for hidden in [
            "/login?a=//b",
            "//login",
            "/x/../login",
            "/%6Cogin",
            "/%2e/login",
            "/login;v=1",
            "/login%00",
            "/x\\..\\login",
            "/x%2F..%2flogin",
        ] {
            let paths = paths_of(hidden, PathNormalization::Strict);
            assert!(paths.contains(&"/login".to_owned()), "{hidden}: {paths:?}");
            assert!(paths.len() <= 48, "{hidden}: {paths:?}");
        }
        for (normalization, path, expected) in [
            (PathNormalization::None, "//%6cogin", "//login"),
            (PathNormalization::Base, "/./%6cogin", "/login"),
            (PathNormalization::MergeSlashes, "//login", "/login"),
            (
                PathNormalization::DecodeAndMergeSlashes,
                "/%2Flogin",
                "/login",
            ),
            // It has no form.
            (PathNormalization::Base, "/login%", "/login%"),
        ] {
            assert_eq!(paths_of(path, normalization), [expected], "{path}");
        }
    }

    #[test]
    fn a_list_that_the_request_lacks_something_for_is_left_out_alone() {
        let headers = HeaderMap::new();
        let request = RequestAttributes {
            source: None,
            method: &Method::GET,
            path: "/",
            path_normalization: PathNormalization::Strict,
            headers: &headers,
        };
        let limit = limit(vec![
            vec![generic("a", "b"), header("user", "x-user")],
            vec![DescriptorEntry::SourceIdentity],
            vec![],
            vec![generic("a", "b")],
        ]);
        assert_eq!(pairs_of(&limit, &request), vec![pairs(&[("a", "b")])]);
    }

    #[test]
    fn repeated_and_garbled_headers_count_too() {
        let mut headers = HeaderMap::new();
        headers.append("x-user", HeaderValue::from_static("ann"));
        headers.append("x-user", HeaderValue::from_bytes(b"b\xff").unwrap());
        let request = RequestAttributes {
            source: None,
            method: &Method::GET,
            path: "/",
            path_normalization: PathNormalization::Strict,
            headers: &headers,
        };
        let limit = limit(vec![vec![header("user", "x-user")]]);
        let expected = vec![pairs(&[("user", "ann,b\u{fffd}")])];
        assert_eq!(pairs_of(&limit, &request), expected);
    }

    fn converted(requests: u32, interval: Duration) -> (u32, RateLimitUnit) {
        let limit = RequestLimit::from_local_limit(&LocalRateLimit {
            requests,
            interval,
            burst: 0,
        });
        (limit.requests, limit.unit)
    }

    #[test]
    fn a_limit_keeps_its_rate_in_the_next_longer_unit() {
        let second = Duration::from_secs(1);
        assert_eq!(converted(5, second), (5, RateLimitUnit::Second));
        assert_eq!(converted(7, 60 * second), (7, RateLimitUnit::Minute));
        assert_eq!(converted(10, second / 10), (100, RateLimitUnit::Second));
        assert_eq!(converted(5, 2 * second), (150, RateLimitUnit::Minute));
        assert_eq!(converted(1, 7 * 86_400 * second), (1, RateLimitUnit::Week));
        assert_eq!(
            converted(4, 730 * 86_400 * second),
            (2, RateLimitUnit::Year)
        );
        assert_eq!(converted(0, second), (0, RateLimitUnit::Second));
        assert_eq!(
            converted(u32::MAX, second / 10),
            (u32::MAX, RateLimitUnit::Second)
        );
    }

    #[test]
    fn units_are_found_by_their_length_only() {
        for unit in RateLimitUnit::ALL {
            assert_eq!(
                RateLimitUnit::from_interval(Duration::from_secs(unit.seconds())),
                Some(unit)
            );
        }
        assert_eq!(RateLimitUnit::from_interval(Duration::from_secs(2)), None);
        assert_eq!(
            RateLimitUnit::from_interval(Duration::from_millis(1500)),
            None
        );
    }

    proptest! {
        #[test]
        fn a_moment_is_in_its_window_and_the_next_begins_when_it_resets(now in 0..u64::from(u32::MAX), unit in 0..7_usize) {
            let unit = RateLimitUnit::ALL[unit];
            let window = unit.window_start(now);
            prop_assert!(window <= now && now < window + unit.seconds());
            prop_assert_eq!(unit.window_start(now + unit.seconds_until_reset(now)), window + unit.seconds());
        }

        #[test]
        fn no_limit_but_zero_becomes_zero(requests in 1..u32::MAX, millis in 1..u64::from(u32::MAX)) {
            let (scaled, unit) = converted(requests, Duration::from_millis(millis));
            let whole_rate = u128::from(requests) * u128::from(unit.seconds()) * 1000 / u128::from(millis);
            prop_assert!(scaled > 0 && u128::from(scaled) >= whole_rate.min(u128::from(u32::MAX)));
        }

        #[test]
        fn what_a_request_has_no_limit_asks_about_more_than_there_are_lists(values in proptest::collection::vec("[a-z]{1,8}", 0..5)) {
            let lists = values.iter().map(|value| vec![DescriptorEntry::Generic { key: Arc::from("k"), value: value.as_str().into() }]);
            let headers = HeaderMap::new();
            let request = RequestAttributes { source: None, method: &Method::GET, path: "/", path_normalization: PathNormalization::Strict, headers: &headers };
            let asked = pairs_of(&limit(lists.collect()), &request);
            let found: Vec<_> = asked.into_iter().flatten().map(|(_, value)| value).collect();
            prop_assert_eq!(found, values);
        }
    }
}
