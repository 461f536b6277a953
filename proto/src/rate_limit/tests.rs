use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::envoy::config::core::v3::HeaderValue;
use crate::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use crate::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// Two descriptors of the domain `shop`, one of them with everything that it can have:
/// written by Envoy's own Go types (go-control-plane/envoy 1.40.0).
const REQUEST: &str = "0a0473686f7012260a0c0a047061746812042f6275790a0b0a04757365721203616e6e120508ac0210021a020802120d0a0b0a04757365721203626f621805";
/// An answer, with fields that are not known here: two quotas and dynamic metadata.
const RESPONSE: &str = "0802121c0802120d08ac0210071a067765656b6c792202082a2a0508031a01711204080118071a080a03782d611201311a090a03782d621a02ff0122080a03782d631201322a09736c6f7720646f776e320a0a080a016112031a01623a020801";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn descriptor(pairs: &[(&str, &str)]) -> Descriptor {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Descriptor {
        entries: pairs.iter().map(owned).collect(),
    }
}

#[test]
fn requests_are_byte_for_byte_those_of_envoys_types() {
    let limit = RequestLimit {
        requests: 300,
        unit: RateLimitUnit::Minute,
    };
    let mut first = descriptor_message(
        descriptor(&[("path", "/buy"), ("user", "ann")]),
        Some(limit),
    );
    first.hits_addend = Some(2);
    let request = RateLimitRequest {
        domain: "shop".into(),
        descriptors: vec![
            first,
            descriptor_message(descriptor(&[("user", "bob")]), None),
        ],
        hits_addend: 5,
    };
    assert_eq!(request.encode_to_vec(), bytes(REQUEST));
    assert_eq!(RateLimitRequest::decode(&*bytes(REQUEST)).unwrap(), request);
}

#[test]
fn answers_of_envoys_types_are_understood_and_unknown_fields_passed_over() {
    let header = |key: &str, value: &str, raw: &[u8]| HeaderValue {
        key: key.into(),
        value: value.into(),
        raw_value: raw.into(),
    };
    let weekly = RequestLimit {
        requests: 300,
        unit: RateLimitUnit::Week,
    };
    let over = DescriptorStatus {
        code: Code::OverLimit.into(),
        current_limit: Some(limit_message(weekly, "weekly")),
        limit_remaining: 0,
        duration_until_reset: Some(duration_message(42)),
    };
    let within = DescriptorStatus {
        code: Code::Ok.into(),
        limit_remaining: 7,
        ..Default::default()
    };
    let expected = RateLimitResponse {
        overall_code: Code::OverLimit.into(),
        statuses: vec![over, within],
        response_headers_to_add: vec![header("x-a", "1", b""), header("x-b", "", &[0xff, 1])],
        request_headers_to_add: vec![header("x-c", "2", b"")],
        raw_body: b"slow down".to_vec(),
    };
    assert_eq!(
        RateLimitResponse::decode(&*bytes(RESPONSE)).unwrap(),
        expected
    );
}

#[test]
fn descriptors_that_can_not_be_counted_are_refused() {
    let refused = |change: fn(&mut RateLimitDescriptor)| {
        let limit = RequestLimit {
            requests: 1,
            unit: RateLimitUnit::Day,
        };
        let mut wire = descriptor_message(descriptor(&[("a", "b"), ("c", "")]), Some(limit));
        assert!(parse_descriptor(&wire).is_ok());
        change(&mut wire);
        parse_descriptor(&wire).unwrap_err()
    };
    assert_eq!(
        refused(|wire| wire.entries.clear()),
        InvalidDescriptor::Empty
    );
    assert_eq!(
        refused(|wire| wire.entries[1].key.clear()),
        InvalidDescriptor::NoKey(1)
    );
    assert_eq!(
        refused(|wire| wire.limit.as_mut().unwrap().unit = 0),
        InvalidDescriptor::Unit(0)
    );
    assert_eq!(
        refused(|wire| wire.limit.as_mut().unwrap().unit = 99),
        InvalidDescriptor::Unit(99)
    );
}

#[test]
fn a_week_is_asked_for_by_days() {
    let limit = RequestLimit {
        requests: 15,
        unit: RateLimitUnit::Week,
    };
    let (_, limit) =
        parse_descriptor(&descriptor_message(descriptor(&[("a", "b")]), Some(limit))).unwrap();
    let expected = RequestLimit {
        requests: 3,
        unit: RateLimitUnit::Day,
    };
    assert_eq!(limit, Some(expected));
}

#[test]
fn odd_times_are_none() {
    let odd = prost_types::Duration {
        seconds: -5,
        nanos: -1,
    };
    assert_eq!(parse_duration(&odd), Duration::ZERO);
    assert_eq!(
        parse_duration(&duration_message(u64::MAX)),
        Duration::from_secs(i64::MAX.unsigned_abs())
    );
}

proptest! {
    #[test]
    fn what_is_asked_arrives(entries in proptest::collection::vec((".{1,9}", ".{0,9}"), 1..5), requests: u32, unit in 0..7_usize) {
        let limit = RequestLimit { requests, unit: RateLimitUnit::ALL[unit] };
        let descriptor = Descriptor { entries };
        let wire = descriptor_message(descriptor.clone(), Some(limit)).encode_to_vec();
        let (arrived, arrived_limit) = parse_descriptor(&RateLimitDescriptor::decode(&*wire).unwrap()).unwrap();
        prop_assert_eq!(arrived, descriptor);
        if limit.unit != RateLimitUnit::Week {
            prop_assert_eq!(arrived_limit, Some(limit));
        }
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>) {
        if let Ok(request) = RateLimitRequest::decode(&*bytes) {
            for descriptor in &request.descriptors {
                let _ = parse_descriptor(descriptor);
            }
        }
    }
}
