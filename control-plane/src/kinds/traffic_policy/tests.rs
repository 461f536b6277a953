use std::time::Duration;

use serde_json::{Value, json};
use weft_model::traffic::{Balancer, DescriptorEntry, FaultKind, HashKey, LocalityPreference};

use super::*;
use crate::kinds::tests::read_live;

fn object(spec: Value) -> TrafficPolicyObject {
    let mut spec = spec;
    if spec.get("targetRef").is_none() {
        spec["targetRef"] = json!({ "kind": "Service", "name": "web" });
    }
    let object = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {
            "name": "web", "namespace": "shop", "generation": 3,
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": spec,
    });
    let read = read_live::<TrafficPolicyObject>(TrafficPolicyObject::KIND, object);
    read.object.unwrap()
}

#[test]
fn what_is_left_out_says_nothing() {
    let object = object(json!({}));
    let web = NamespacedName::new("shop", "web");
    assert_eq!(object.content, Ok(TrafficPolicy::new(web.clone())));
    assert_eq!(object.target, Some(web));
    assert_eq!(
        (object.generation, object.created),
        (Some(3), 1_767_323_045)
    );
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn how_an_endpoint_is_chosen_is_understood() {
    let policy = object(json!({
        "loadBalancer": { "type": "ConsistentHash", "hash": { "cookie": { "name": "session", "ttl": "1h" } } },
        "locality": { "prefer": "Zone" },
        "slowStart": "30s",
    }));
    let policy = policy.content.unwrap();
    assert_eq!(
        policy.balancer,
        Balancer::ConsistentHash(HashKey::Cookie {
            name: "session".into(),
            lifetime: Some(3600 * SECOND),
        })
    );
    assert_eq!(policy.locality, Some(LocalityPreference::Zone));
    assert_eq!(policy.slow_start, Some(30 * SECOND));
}

#[test]
fn what_happens_to_requests_that_fail_is_understood() {
    let policy = object(json!({
        "limits": { "connections": 100, "requests": 50, "pendingRequests": 10 },
        "circuitBreaker": { "consecutiveFailures": 5, "failurePercent": 50, "openFor": "1m" },
        "outlierDetection": { "consecutiveFailures": 3, "baseEjection": "10s", "maxEjectedPercent": 40 },
        "retryBudget": { "percent": 30, "minimumPerSecond": 0 },
        "retry": { "codes": [503], "attempts": 2, "backoff": "50ms" },
        "timeouts": { "request": "10s", "backendRequest": "2s" },
        "faults": [
            { "delay": "200ms", "percent": 0.5 },
            { "abort": { "grpcStatus": 14 } },
        ],
    }));
    let policy = policy.content.unwrap();
    assert_eq!(policy.limits.pending_requests, Some(10));
    let breaker = policy.circuit_breaker.unwrap();
    assert_eq!((breaker.window, breaker.probes), (10 * SECOND, 1));
    assert_eq!(breaker.failure_ratio, Some(0.5));
    let outliers = policy.outlier_detection.unwrap();
    assert_eq!(outliers.max_ejection, 300 * SECOND);
    assert_eq!(policy.retry_budget.unwrap().interval, 10 * SECOND);
    assert_eq!(policy.retry.unwrap().attempts, 2);
    assert_eq!(policy.timeouts.backend_request, Some(2 * SECOND));
    assert_eq!(policy.faults[1].kind, FaultKind::AbortGrpc(14));
}

#[test]
fn how_long_connections_may_be_silent_is_understood() {
    let policy = object(json!({
        "connections": {
            "halfClosedTimeout": "10m",
            "ports": [{ "port": 5432, "idleTimeout": "0s" }],
        },
    }));
    let limits = policy.content.unwrap().idle_limits;
    assert_eq!(limits.all.half_closed, Some(600 * SECOND));
    assert_eq!(limits.at(5432).open, Some(Duration::ZERO));
    assert_refused(&[
        (
            json!({ "connections": { "idleTimeout": "1d" } }),
            "spec.connections.idleTimeout",
        ),
        (
            json!({ "connections": { "ports": [{ "port": 1 }, { "port": 1 }] } }),
            "spec.connections.ports[1].port",
        ),
    ]);
}

#[test]
fn how_often_a_service_may_be_asked_is_understood() {
    let policy = object(json!({
        "rateLimit": {
            "local": { "requests": 100, "interval": "1m", "burst": 20 },
            "instance": { "requests": 500 },
            "global": {
                "server": { "name": "limits", "namespace": "tools", "port": 8081 },
                "domain": "shop",
                "descriptors": [{ "entries": [
                    { "sourceIdentity": {} },
                    { "header": { "name": "x-plan" } },
                    { "generic": { "value": "api" } },
                ] }],
                "limit": { "requests": 5, "interval": "1m" },
                "failOpen": false,
            },
        },
    }));
    let policy = policy.content.unwrap();
    assert_eq!(policy.local_rate_limit.unwrap().burst, 20);
    let instance = policy.instance_rate_limit.unwrap();
    assert_eq!((instance.interval, instance.burst), (SECOND, 500));
    assert_refused(&[(
        json!({ "rateLimit": { "instance": { "requests": 0 } } }),
        "spec.rateLimit.instance.requests",
    )]);
    let global = policy.global_rate_limit.unwrap();
    assert_eq!(
        global.server.unwrap().0,
        NamespacedName::new("tools", "limits")
    );
    assert_eq!(global.timeout, Duration::from_millis(100));
    let [descriptor] = global.descriptors.as_slice() else {
        panic!("{:?}", global.descriptors)
    };
    assert_eq!(descriptor[0], DescriptorEntry::SourceIdentity);
    let header = "x-plan".parse().unwrap();
    let key = "x-plan".into();
    assert_eq!(descriptor[1], DescriptorEntry::Header { key, header });
}

#[test]
fn the_control_planes_rate_limit_service_is_told_the_namespace_that_asks() {
    let domain = |server: Value| {
        let mut global = json!({
            "domain": "bank", "descriptors": [{ "entries": [{ "path": {} }] }],
        });
        if !server.is_null() {
            global["server"] = server;
        }
        let policy = object(json!({
            "targetRef": { "kind": "Service", "name": "web" },
            "rateLimit": { "global": global },
        }));
        let global = policy.content.unwrap().global_rate_limit.unwrap();
        global.domain.to_string()
    };
    assert_eq!(domain(Value::Null), "shop/bank");
    let own = json!({ "name": "limits", "namespace": "tools", "port": 8081 });
    assert_eq!(domain(own), "bank");
}

/// `spec`s, each with the field that is refused.
fn assert_refused(cases: &[(Value, &str)]) {
    for (spec, field) in cases {
        let error = object(spec.clone()).content.unwrap_err().to_string();
        assert!(error.contains(field), "{spec}: {error} names no {field}");
    }
}

#[test]
fn a_choice_that_can_not_be_made_is_named_by_its_field() {
    let balancer = |fields: Value| json!({ "loadBalancer": fields });
    let hash = "spec.loadBalancer.hash";
    assert_refused(&[
        (
            json!({ "targetRef": { "kind": "Pod", "name": "web" } }),
            "spec.targetRef.kind",
        ),
        (
            json!({ "targetRef": { "kind": "Service", "name": "" } }),
            "spec.targetRef.name",
        ),
        (json!({ "slowstart": "1s" }), "slowstart"),
        (json!({ "slowStart": "1 hour" }), "spec.slowStart"),
        (json!({ "slowStart": "9999h" }), "spec.slowStart"),
        (
            balancer(json!({ "type": "Maglev" })),
            "spec.loadBalancer.type",
        ),
        (balancer(json!({ "type": "ConsistentHash" })), hash),
        (
            balancer(json!({ "type": "Random", "hash": { "source": {} } })),
            hash,
        ),
        (
            balancer(json!({ "type": "ConsistentHash", "hash": { "header": "x", "source": {} } })),
            hash,
        ),
        (
            balancer(json!({ "type": "ConsistentHash", "hash": { "header": "a b" } })),
            "spec.loadBalancer.hash.header",
        ),
    ]);
}

#[test]
fn a_limit_that_can_not_be_kept_is_named_by_its_field() {
    let breaker = |fields: Value| json!({ "circuitBreaker": fields });
    let outliers = json!({ "consecutiveFailures": 1, "baseEjection": "1m", "maxEjection": "30s" });
    assert_refused(&[
        (
            json!({ "limits": { "requests": -1 } }),
            "spec.limits.requests",
        ),
        (breaker(json!({})), "spec.circuitBreaker"),
        (
            breaker(json!({ "consecutiveFailures": 1, "openFor": "0s" })),
            "spec.circuitBreaker.openFor",
        ),
        (
            breaker(json!({ "failurePercent": 101 })),
            "spec.circuitBreaker.failurePercent",
        ),
        (
            json!({ "outlierDetection": outliers }),
            "spec.outlierDetection.maxEjection",
        ),
    ]);
}

#[test]
fn an_attempt_that_can_not_be_made_is_named_by_its_field() {
    assert_refused(&[
        (
            json!({ "retryBudget": { "percent": 200 } }),
            "spec.retryBudget.percent",
        ),
        (json!({ "retry": { "codes": [200] } }), "spec.retry.codes"),
        (json!({ "retry": { "attempts": 0 } }), "spec.retry.attempts"),
        (
            json!({ "timeouts": { "request": "1s", "backendRequest": "2s" } }),
            "spec.timeouts.backendRequest",
        ),
        (
            json!({ "faults": [{ "percent": 5 }] }),
            "spec.faults[0].delay",
        ),
        (
            json!({ "faults": [{ "delay": "1s", "percent": 101 }] }),
            "spec.faults[0].percent",
        ),
        (
            json!({ "faults": [{ "abort": { "httpStatus": 99 } }] }),
            "spec.faults[0].abort.httpStatus",
        ),
    ]);
}

#[test]
fn a_rate_that_can_not_be_counted_is_named_by_its_field() {
    let global = |descriptors: Value| json!({ "rateLimit": { "global": { "domain": "d", "descriptors": descriptors } } });
    let mut limited = global(json!([{ "entries": [{ "path": {} }] }]));
    limited["rateLimit"]["global"]["limit"] = json!({ "requests": 1, "interval": "10s" });
    assert_refused(&[
        (
            json!({ "rateLimit": { "local": { "requests": 0 } } }),
            "spec.rateLimit.local.requests",
        ),
        (
            global(json!([{ "entries": [{}] }])),
            "spec.rateLimit.global.descriptors[0].entries[0]",
        ),
        (global(json!([])), "spec.rateLimit.global.descriptors"),
        (limited, "spec.rateLimit.global.limit.interval"),
    ]);
}
