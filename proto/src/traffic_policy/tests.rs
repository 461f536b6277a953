use http::StatusCode;
use proptest::option;
use proptest::prelude::*;
use weft_model::NamespacedName;
use weft_model::idle::{IdleLimits, ServiceIdleLimits};
use weft_model::route::Retry;

use super::*;

fn micros() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|us| Duration::from_micros(us.into()))
}

/// What is left of a time in milliseconds.
fn in_millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap())
}

fn any_balancer() -> impl Strategy<Value = Balancer> {
    let lifetime = option::of(any::<u32>().prop_map(|s| Duration::from_secs(s.into())));
    let key = prop_oneof![
        "[a-z]{1,6}".prop_map(|name| HashKey::Header(name.parse().unwrap())),
        ("[a-z]{1,6}", lifetime).prop_map(|(name, lifetime)| HashKey::Cookie {
            name: name.into(),
            lifetime,
        }),
        Just(HashKey::Source),
    ];
    prop_oneof![
        Just(Balancer::Ewma),
        Just(Balancer::RoundRobin),
        Just(Balancer::LeastRequest),
        Just(Balancer::Random),
        key.prop_map(Balancer::ConsistentHash),
    ]
}

fn any_locality() -> impl Strategy<Value = LocalityPreference> {
    prop::sample::select(vec![
        LocalityPreference::Any,
        LocalityPreference::Zone,
        LocalityPreference::Node,
    ])
}

fn any_limits() -> impl Strategy<Value = Limits> {
    prop::array::uniform3(option::of(any::<u32>())).prop_map(
        |[connections, requests, pending_requests]| Limits {
            connections,
            requests,
            pending_requests,
        },
    )
}

prop_compose! {
    fn any_breaker()(
        consecutive_failures in option::of(any::<u32>()),
        failure_ratio in option::of(0.0f64..=1.0),
        (minimum_requests, probes) in any::<(u32, u32)>(),
        (window, open_for) in (micros(), micros()),
    ) -> CircuitBreaker {
        CircuitBreaker { consecutive_failures, failure_ratio, minimum_requests, window, open_for, probes }
    }
}

prop_compose! {
    fn any_outliers()(
        consecutive_failures in option::of(any::<u32>()),
        failure_ratio in option::of(0.0f64..=1.0),
        minimum_requests: u32,
        (window, base_ejection, max_ejection) in (micros(), micros(), micros()),
        max_ejected_percent in 0u8..=100,
    ) -> OutlierDetection {
        OutlierDetection {
            consecutive_failures, failure_ratio, minimum_requests, window, base_ejection,
            max_ejection, max_ejected_percent,
        }
    }
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let kind = prop_oneof![
        micros().prop_map(FaultKind::Delay),
        (100u16..=599).prop_map(|code| FaultKind::Abort(StatusCode::from_u16(code).unwrap())),
        any::<u16>().prop_map(FaultKind::AbortGrpc),
    ];
    (kind, 0.0f64..=100.0).prop_map(|(kind, percent)| Fault { kind, percent })
}

prop_compose! {
    fn any_bucket()(requests: u32, interval in micros(), burst: u32) -> LocalRateLimit {
        LocalRateLimit { requests, interval, burst }
    }
}

fn any_entry() -> impl Strategy<Value = DescriptorEntry> {
    prop_oneof![
        ("[a-z]{0,4}", "[a-z]{0,4}").prop_map(|(key, value)| DescriptorEntry::Generic {
            key: key.into(),
            value: value.into(),
        }),
        ("[a-z]{0,4}", "[a-z]{1,4}").prop_map(|(key, header)| DescriptorEntry::Header {
            key: key.into(),
            header: header.parse().unwrap(),
        }),
        Just(DescriptorEntry::SourceIdentity),
        Just(DescriptorEntry::Path),
        Just(DescriptorEntry::Method),
    ]
}

prop_compose! {
    fn any_global()(
        server in option::of(("[a-z]{1,6}", 1u16..)),
        domain in "[a-z]{0,6}",
        descriptors in prop::collection::vec(prop::collection::vec(any_entry(), 0..3), 0..3),
        limit in option::of(any_bucket()),
        timeout in micros(),
        fail_open: bool,
    ) -> GlobalRateLimit {
        let server = server.map(|(name, port)| (NamespacedName::new("limits", &name), port));
        GlobalRateLimit { server, domain: domain.into(), descriptors, limit, timeout, fail_open }
    }
}

fn any_retry() -> impl Strategy<Value = Retry> {
    let codes = prop::collection::vec(100u16..=599, 0..3);
    (codes, any::<u32>(), micros()).prop_map(|(codes, attempts, backoff)| Retry {
        codes: codes
            .into_iter()
            .map(|code| StatusCode::from_u16(code).unwrap())
            .collect(),
        attempts,
        backoff,
    })
}

fn any_budget() -> impl Strategy<Value = RetryBudget> {
    (0u8..=100, micros(), any::<u32>()).prop_map(|(percent, interval, minimum_per_second)| {
        RetryBudget {
            percent,
            interval,
            minimum_per_second,
        }
    })
}

proptest! {
    #[test]
    fn a_policy_survives_the_wire(
        (name, port) in ("[a-z]{1,8}", any::<u16>()),
        (balancer, locality) in (any_balancer(), prop::option::of(any_locality())),
        (slow_start, limits) in (option::of(micros()), any_limits()),
        (breaker, outliers) in (option::of(any_breaker()), option::of(any_outliers())),
        (budget, retry) in (option::of(any_budget()), option::of(any_retry())),
        [request, backend_request] in prop::array::uniform2(option::of(micros())),
        faults in prop::collection::vec(any_fault(), 0..3),
        (local, instance, global) in (
            option::of(any_bucket()),
            option::of(any_bucket()),
            option::of(any_global()),
        ),
    ) {
        let policy = TrafficPolicy {
            service: NamespacedName::new("shop", &name),
            balancer,
            locality,
            slow_start,
            limits,
            circuit_breaker: breaker,
            outlier_detection: outliers,
            retry_budget: budget,
            retry,
            timeouts: Timeouts { request, backend_request },
            idle_limits: ServiceIdleLimits {
                all: IdleLimits { open: request.map(in_millis), half_closed: None },
                ports: vec![(port, IdleLimits { open: None, half_closed: backend_request.map(in_millis) })],
            },
            faults,
            local_rate_limit: local,
            instance_rate_limit: instance,
            global_rate_limit: global,
        };
        prop_assert_eq!(TrafficPolicy::try_from(v1::TrafficPolicy::from(&policy)), Ok(policy));
    }
}

/// Asserts that a policy with this change is refused by the name of a field.
fn assert_refused(field: &str, change: impl FnOnce(&mut v1::TrafficPolicy)) {
    let valid = TrafficPolicy::new(NamespacedName::new("shop", "web"));
    let mut message = v1::TrafficPolicy::from(&valid);
    change(&mut message);
    let error = TrafficPolicy::try_from(message).unwrap_err().to_string();
    assert!(error.contains(field), "{error} names no {field}");
}

#[test]
fn what_means_nothing_is_refused_by_the_name_of_its_field() {
    assert_refused("name", |m| m.name.clear());
    assert_refused("locality", |m| m.locality = 99);
    assert_refused("load_balancer.kind", |m| m.load_balancer = None);
    assert_refused("load_balancer.consistent_hash", |m| {
        let key = Some(Key::Header("a b".into()));
        let kind = Some(Kind::ConsistentHash(v1::HashKey { key }));
        m.load_balancer = Some(v1::LoadBalancer { kind });
    });
    assert_refused("circuit_breaker.failure_ratio", |m| {
        m.circuit_breaker = Some(v1::CircuitBreaker {
            failure_ratio: Some(f64::NAN),
            ..Default::default()
        });
    });
    assert_refused("outlier_detection.max_ejected_percent", |m| {
        m.outlier_detection = Some(v1::OutlierDetection {
            max_ejected_percent: 101,
            ..Default::default()
        });
    });
    assert_refused("retry_budget.percent", |m| {
        m.retry_budget = Some(v1::RetryBudget {
            percent: 300,
            ..Default::default()
        });
    });
}

#[test]
fn a_fault_that_means_nothing_is_refused_by_the_name_of_its_field() {
    let fault = |kind, percent| vec![v1::Fault { kind, percent }];
    assert_refused("faults.kind", |m| m.faults = fault(None, 1.0));
    assert_refused("faults.kind", |m| {
        m.faults = fault(Some(FaultMessage::HttpStatus(99)), 1.0);
    });
    assert_refused("faults.percent", |m| {
        m.faults = fault(Some(FaultMessage::DelayUs(1)), 100.1);
    });
}
