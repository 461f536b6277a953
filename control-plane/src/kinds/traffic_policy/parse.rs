//! The content of a TrafficPolicy, in the words of the model.

mod field;
mod rate_limit;

use weft_model::NamespacedName;
use weft_model::route::{Retry, Timeouts};
use weft_model::traffic::{
    Balancer, CircuitBreaker, Fault, FaultKind, HashKey, Limits, LocalityPreference,
    OutlierDetection, RetryBudget, TrafficPolicy,
};

use self::field::{At, Result, SECOND};
use super::schema::{
    BalancerType, CircuitBreakerSpec, FaultSpec, HashSpec, LimitsSpec, LoadBalancerSpec,
    OutlierDetectionSpec, Prefer, RetryBudgetSpec, RetrySpec, TargetKind, TimeoutsSpec,
    TrafficPolicySpec,
};
use crate::kinds::field_error::FieldError;

/// Requests that a window needs before a share of them counts.
const MINIMUM_REQUESTS: u32 = 10;

/// The content of a policy of that namespace.
pub(super) fn policy(namespace: &str, spec: TrafficPolicySpec) -> Result<TrafficPolicy> {
    let target = spec.target_ref;
    let TargetKind::Service = target.kind;
    if !target.group.is_empty() {
        return Err(FieldError::new(
            "spec.targetRef.group",
            "Services have none",
        ));
    }
    if target.name.is_empty() {
        let why = "it names the Service that the policy is of";
        return Err(FieldError::missing("spec.targetRef.name", why));
    }
    let faults = spec.faults.into_iter().enumerate();
    let rate_limits = spec.rate_limit.unwrap_or_default();
    let global = rate_limits.global;
    Ok(TrafficPolicy {
        service: NamespacedName::new(namespace, &target.name),
        balancer: spec.load_balancer.map_or(Ok(Balancer::Ewma), balancer)?,
        locality: spec.locality.map(|locality| match locality.prefer {
            Prefer::Any => LocalityPreference::Any,
            Prefer::Zone => LocalityPreference::Zone,
            Prefer::Node => LocalityPreference::Node,
        }),
        slow_start: At("spec.slowStart").no_limit(spec.slow_start)?,
        limits: limits(spec.limits.unwrap_or_default())?,
        circuit_breaker: spec.circuit_breaker.map(breaker).transpose()?,
        outlier_detection: spec.outlier_detection.map(outliers).transpose()?,
        retry_budget: spec.retry_budget.map(budget).transpose()?,
        retry: spec.retry.map(retry).transpose()?,
        timeouts: timeouts(spec.timeouts.unwrap_or_default())?,
        idle_limits: spec
            .connections
            .unwrap_or_default()
            .limits("spec.connections")?,
        faults: faults
            .map(|(index, fault_spec)| fault(index, &fault_spec))
            .collect::<Result<_>>()?,
        local_rate_limit: rate_limit::rate(&rate_limit::LOCAL, rate_limits.local)?,
        instance_rate_limit: rate_limit::rate(&rate_limit::INSTANCE, rate_limits.instance)?,
        global_rate_limit: global
            .map(|spec| rate_limit::global(namespace, spec))
            .transpose()?,
    })
}

fn balancer(spec: LoadBalancerSpec) -> Result<Balancer> {
    let at = At("spec.loadBalancer.hash");
    match (spec.kind, spec.hash) {
        (BalancerType::ConsistentHash, Some(key)) => Ok(Balancer::ConsistentHash(hash_key(key)?)),
        (BalancerType::ConsistentHash, None) => {
            let why = "it says what ConsistentHash goes by";
            Err(FieldError::missing(at.0, why))
        }
        (_, Some(_)) => Err(at.error("only ConsistentHash goes by anything")),
        (BalancerType::Ewma, None) => Ok(Balancer::Ewma),
        (BalancerType::RoundRobin, None) => Ok(Balancer::RoundRobin),
        (BalancerType::LeastRequest, None) => Ok(Balancer::LeastRequest),
        (BalancerType::Random, None) => Ok(Balancer::Random),
    }
}

fn hash_key(spec: HashSpec) -> Result<HashKey> {
    match (spec.header, spec.cookie, spec.source) {
        (Some(name), None, None) => {
            let name = At("spec.loadBalancer.hash.header").header(&name)?;
            Ok(HashKey::Header(name))
        }
        (None, Some(cookie), None) => {
            // A cookie's name is a token (RFC 6265 section 4.1.1), as a header's is.
            At("spec.loadBalancer.hash.cookie.name").header(&cookie.name)?;
            let lifetime = At("spec.loadBalancer.hash.cookie.ttl").no_limit(cookie.ttl)?;
            Ok(HashKey::Cookie {
                name: cookie.name.into(),
                lifetime,
            })
        }
        (None, None, Some(_)) => Ok(HashKey::Source),
        _ => Err(At("spec.loadBalancer.hash").error("is one of header, cookie and source")),
    }
}

fn limits(spec: LimitsSpec) -> Result<Limits> {
    Ok(Limits {
        connections: At("spec.limits.connections").at_least(spec.connections, 0)?,
        requests: At("spec.limits.requests").at_least(spec.requests, 0)?,
        pending_requests: At("spec.limits.pendingRequests").at_least(spec.pending_requests, 0)?,
    })
}

fn breaker(spec: CircuitBreakerSpec) -> Result<CircuitBreaker> {
    if spec.consecutive_failures.is_none() && spec.failure_percent.is_none() {
        let why = "consecutiveFailures or failurePercent says what opens it";
        return Err(FieldError::missing("spec.circuitBreaker", why));
    }
    let consecutive = At("spec.circuitBreaker.consecutiveFailures");
    let minimum = At("spec.circuitBreaker.minimumRequests").at_least(spec.minimum_requests, 1)?;
    let probes = At("spec.circuitBreaker.probes").at_least(spec.probes, 1)?;
    Ok(CircuitBreaker {
        consecutive_failures: consecutive.at_least(spec.consecutive_failures, 1)?,
        failure_ratio: At("spec.circuitBreaker.failurePercent").share(spec.failure_percent)?,
        minimum_requests: minimum.unwrap_or(MINIMUM_REQUESTS),
        window: At("spec.circuitBreaker.window").positive(spec.window, 10 * SECOND)?,
        open_for: At("spec.circuitBreaker.openFor").positive(spec.open_for, 30 * SECOND)?,
        probes: probes.unwrap_or(1),
    })
}

fn outliers(spec: OutlierDetectionSpec) -> Result<OutlierDetection> {
    if spec.consecutive_failures.is_none() && spec.failure_percent.is_none() {
        let why = "consecutiveFailures or failurePercent says what ejects an endpoint";
        return Err(FieldError::missing("spec.outlierDetection", why));
    }
    let consecutive = At("spec.outlierDetection.consecutiveFailures");
    let minimum = At("spec.outlierDetection.minimumRequests");
    let minimum = minimum.at_least(spec.minimum_requests, 1)?;
    let base = At("spec.outlierDetection.baseEjection");
    let base_ejection = base.positive(spec.base_ejection, 30 * SECOND)?;
    let max = At("spec.outlierDetection.maxEjection");
    let default = base_ejection.max(300 * SECOND);
    let max_ejection = max.positive(spec.max_ejection, default)?;
    if max_ejection < base_ejection {
        return Err(max.error("shorter than baseEjection"));
    }
    let percent = spec.max_ejected_percent.unwrap_or(10);
    Ok(OutlierDetection {
        consecutive_failures: consecutive.at_least(spec.consecutive_failures, 1)?,
        failure_ratio: At("spec.outlierDetection.failurePercent").share(spec.failure_percent)?,
        minimum_requests: minimum.unwrap_or(MINIMUM_REQUESTS),
        window: At("spec.outlierDetection.window").positive(spec.window, 10 * SECOND)?,
        base_ejection,
        max_ejection,
        max_ejected_percent: At("spec.outlierDetection.maxEjectedPercent").percent(percent, 1)?,
    })
}

fn budget(spec: RetryBudgetSpec) -> Result<RetryBudget> {
    let default = RetryBudget::default();
    let percent = At("spec.retryBudget.percent");
    let percent = spec.percent.map(|number| percent.percent(number, 0));
    let minimum = At("spec.retryBudget.minimumPerSecond");
    let minimum = minimum.at_least(spec.minimum_per_second, 0)?;
    Ok(RetryBudget {
        percent: percent.transpose()?.unwrap_or(default.percent),
        interval: At("spec.retryBudget.interval").positive(spec.interval, default.interval)?,
        minimum_per_second: minimum.unwrap_or(default.minimum_per_second),
    })
}

fn retry(spec: RetrySpec) -> Result<Retry> {
    let codes = spec.codes.into_iter();
    let codes = codes.map(|code| At("spec.retry.codes").status(code, 400));
    let attempts = At("spec.retry.attempts").within(spec.attempts.unwrap_or(1), 1, 10)?;
    let backoff = At("spec.retry.backoff").no_limit(spec.backoff)?;
    Ok(Retry {
        codes: codes.collect::<Result<_>>()?,
        attempts,
        backoff: backoff.unwrap_or_default(),
    })
}

fn timeouts(spec: TimeoutsSpec) -> Result<Timeouts> {
    let request = At("spec.timeouts.request").no_limit(spec.request)?;
    let at = At("spec.timeouts.backendRequest");
    let backend_request = at.no_limit(spec.backend_request)?;
    if let (Some(request), Some(backend_request)) = (request, backend_request)
        && backend_request > request
    {
        return Err(at.error("longer than the request, of which it is a part"));
    }
    Ok(Timeouts {
        request,
        backend_request,
    })
}

fn fault(index: usize, spec: &FaultSpec) -> Result<Fault> {
    let named = |error: FieldError| error.within(&format!("spec.faults[{index}]"));
    let kind = match (&spec.delay, spec.abort) {
        (Some(delay), None) => At("delay").span(delay).map(FaultKind::Delay),
        (None, Some(abort)) => match (abort.http_status, abort.grpc_status) {
            (Some(code), None) => {
                let status = At("abort.httpStatus").status(code, 200);
                status.map(FaultKind::Abort)
            }
            (None, Some(code)) => {
                let code = At("abort.grpcStatus").within(code, 0, 16);
                code.map(|code| FaultKind::AbortGrpc(u16::try_from(code).unwrap_or_default()))
            }
            _ => Err(At("abort").error("is either an httpStatus or a grpcStatus")),
        },
        _ => Err(At("delay").error("a fault is either a delay or an abort")),
    };
    let percent = spec.percent.unwrap_or(100.0);
    if !(0.0..=100.0).contains(&percent) {
        return Err(named(
            At("percent").error(format!("{percent} is not between 0 and 100")),
        ));
    }
    Ok(Fault {
        kind: kind.map_err(named)?,
        percent,
    })
}
