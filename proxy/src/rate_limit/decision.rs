//! The decision that an answer of a rate limit service is. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use weft_proto::envoy::config::core::v3::HeaderValue as Added;
use weft_proto::envoy::service::ratelimit::v3::RateLimitResponse;
use weft_proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use weft_proto::rate_limit::{parse_duration, parse_unit};

use super::error::RateLimitError;

/// Headers that an answer may add.
const MOST_HEADERS: usize = 64;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Headers that say where a message ends, whose it is and which way it takes: no business
/// of a rate limit service.
const RESERVED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// What the rate limit service decides about a request.
#[derive(Debug)]
pub(crate) enum RateLimitDecision {
    /// It goes on.
    Allowed(RateLimitHeaders),
    /// It is answered instead.
    Limited(OverLimit),
    /// Nobody said; [`GlobalRateLimit::fail_open`] decides.
    Unavailable(RateLimitError),
}

/// Headers that the rate limit service asked us to add.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct RateLimitHeaders {
    /// For the request.
    pub request_headers: HeaderMap,
    /// For the response: what the service says, and `x-ratelimit-limit`, `-remaining` and
    /// `-reset` of the limit that is reached first.
    pub response_headers: HeaderMap,
}

/// The reply to a request that is over a limit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OverLimit {
    /// When it may come again; the header `retry-after` says so, too.
    pub retry_after: Option<Duration>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body; empty where the service says nothing.
    pub body: Bytes,
}

/// The decision that an answer is.
pub(super) fn decide(response: RateLimitResponse) -> RateLimitDecision {
    let mut headers = added(&response.response_headers_to_add);
    name_limits(&mut headers, &response.statuses);
    match response.overall_code() {
        Code::Ok => RateLimitDecision::Allowed(RateLimitHeaders {
            request_headers: added(&response.request_headers_to_add),
            response_headers: headers,
        }),
        Code::OverLimit => {
            let over = response.statuses.iter();
            let over = over.filter(|status| status.code() == Code::OverLimit);
            // All of them have to be under their limits again.
            let retry_after = over
                .filter_map(|status| status.duration_until_reset.as_ref())
                .map(|left| Duration::from_secs(whole_seconds(parse_duration(left)).max(1)))
                .max();
            if let Some(after) = retry_after {
                headers
                    .entry(header::RETRY_AFTER)
                    .or_insert_with(|| after.as_secs().into());
            }
            RateLimitDecision::Limited(OverLimit {
                retry_after,
                headers,
                body: response.raw_body.into(),
            })
        }
        Code::Unknown => {
            let message = "its answer says neither yes nor no".to_owned();
            RateLimitDecision::Unavailable(RateLimitError::Failed(message))
        }
    }
}

/// What can be a header and may be one.
fn added(headers: &[Added]) -> HeaderMap {
    let header = |added: &Added| {
        let name = HeaderName::from_bytes(added.key.as_bytes()).ok()?;
        let value = match added.value.as_str() {
            "" => HeaderValue::from_bytes(&added.raw_value).ok()?,
            value => HeaderValue::from_str(value).ok()?,
        };
        (!RESERVED.contains(&name)).then_some((name, value))
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().take(MOST_HEADERS).filter_map(header) {
        map.append(name, value);
    }
    map
}

/// Says the limits (draft-ietf-httpapi-ratelimit-headers-03, as Envoy does), unless the
/// service has.
fn name_limits(headers: &mut HeaderMap, statuses: &[DescriptorStatus]) {
    let limited = statuses.iter().filter_map(|status| {
        let limit = status.current_limit.as_ref()?;
        Some((status, limit, parse_unit(limit.unit).ok()?))
    });
    let limited: Vec<_> = limited.collect();
    let first = limited
        .iter()
        .min_by_key(|(status, ..)| (status.code() != Code::OverLimit, status.limit_remaining));
    let Some((status, limit, _)) = first else {
        return;
    };
    let mut all = limit.requests_per_unit.to_string();
    for (_, limit, unit) in &limited {
        all += &format!(", {};w={}", limit.requests_per_unit, unit.seconds());
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if !limit.name.is_empty() && limit.name.bytes().all(plain) {
            all += &format!(";name=\"{}\"", limit.name);
        }
    }
    if let Ok(all) = HeaderValue::from_str(&all) {
        headers.entry(LIMIT).or_insert(all);
    }
    let remaining = status.limit_remaining;
    headers.entry(REMAINING).or_insert_with(|| remaining.into());
    if let Some(left) = &status.duration_until_reset {
        let seconds = whole_seconds(parse_duration(left));
        headers.entry(RESET).or_insert_with(|| seconds.into());
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use weft_model::traffic::rate_limit::{RateLimitUnit, RequestLimit};
    use weft_proto::rate_limit::{duration_message, limit_message};

    use super::*;

    fn status(
        code: Code,
        requests: u32,
        unit: RateLimitUnit,
        remaining: u32,
        reset: u64,
    ) -> DescriptorStatus {
        DescriptorStatus {
            code: code.into(),
            current_limit: Some(limit_message(RequestLimit { requests, unit }, "")),
            limit_remaining: remaining,
            duration_until_reset: Some(duration_message(reset)),
        }
    }

    fn header(key: &str, value: &str) -> Added {
        Added {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let one = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut shown: Vec<_> = headers.iter().map(one).collect();
        shown.sort();
        shown
    }

    #[test]
    fn who_is_over_a_limit_is_told_which_and_when_to_come_again() {
        let mut named = status(Code::OverLimit, 100, RateLimitUnit::Hour, 0, 1800);
        named.current_limit.as_mut().unwrap().name = "hourly".to_owned();
        let verdict = decide(RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![
                status(Code::Ok, 3, RateLimitUnit::Second, 0, 1),
                named,
                status(Code::OverLimit, 10, RateLimitUnit::Minute, 0, 20),
            ],
            response_headers_to_add: vec![header("x-why", "busy")],
            raw_body: b"later".to_vec(),
            ..Default::default()
        });
        let RateLimitDecision::Limited(limited) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(limited.retry_after, Some(Duration::from_secs(1800)));
        assert_eq!(&limited.body[..], b"later");
        let expected = [
            "retry-after: 1800",
            "x-ratelimit-limit: 100, 3;w=1, 100;w=3600;name=\"hourly\", 10;w=60",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 1800",
            "x-why: busy",
        ];
        assert_eq!(shown(&limited.headers), expected);
    }

    #[test]
    fn who_passes_is_told_how_much_is_left_of_the_tightest_limit() {
        let verdict = decide(RateLimitResponse {
            overall_code: Code::Ok.into(),
            statuses: vec![
                status(Code::Ok, 100, RateLimitUnit::Day, 60, 5000),
                status(Code::Ok, 10, RateLimitUnit::Minute, 4, 20),
                DescriptorStatus::default(),
            ],
            request_headers_to_add: vec![header("x-tenant", "ann")],
            ..Default::default()
        });
        let RateLimitDecision::Allowed(passed) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(shown(&passed.request_headers), ["x-tenant: ann"]);
        let expected = [
            "x-ratelimit-limit: 10, 100;w=86400, 10;w=60",
            "x-ratelimit-remaining: 4",
            "x-ratelimit-reset: 20",
        ];
        assert_eq!(shown(&passed.response_headers), expected);
    }

    #[test]
    fn what_the_service_says_of_limits_is_kept_and_what_it_must_not_say_left_out() {
        let verdict = decide(RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![status(Code::OverLimit, 10, RateLimitUnit::Minute, 0, 20)],
            response_headers_to_add: vec![
                header("X-RateLimit-Limit", "ten"),
                header("retry-after", "7"),
                header("set-cookie", "a=1"),
                header("set-cookie", "b=2"),
                header("Transfer-Encoding", "chunked"),
                header("content-length", "7"),
                header("connection", "close"),
                header(":status", "200"),
                header("bad name", "x"),
                header("x-bad", "a\r\nb: c"),
            ],
            ..Default::default()
        });
        let RateLimitDecision::Limited(limited) = verdict else {
            panic!("{verdict:?}");
        };
        let expected = [
            "retry-after: 7",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "x-ratelimit-limit: ten",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 20",
        ];
        assert_eq!(shown(&limited.headers), expected);
    }

    #[test]
    fn an_answer_without_limits_or_without_a_verdict() {
        let verdict = decide(RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            ..Default::default()
        });
        let RateLimitDecision::Limited(limited) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!((limited.retry_after, limited.headers.len()), (None, 0));
        let verdict = decide(RateLimitResponse::default());
        assert!(
            matches!(verdict, RateLimitDecision::Unavailable(_)),
            "{verdict:?}"
        );
        let mut many = vec![header("x-many", "1"); 1000];
        many.push(header("x-late", "1"));
        assert_eq!(added(&many).len(), MOST_HEADERS);
    }
}
