//! TrafficPolicies on the wire. Numbers that mean nothing, such as a share of more than
//! all, are refused here.

use std::time::Duration;

use weft_model::route::Timeouts;
use weft_model::traffic::{
    Balancer, CircuitBreaker, DescriptorEntry, Fault, FaultKind, GlobalRateLimit, HashKey, Limits,
    LocalRateLimit, LocalityPreference, OutlierDetection, RetryBudget, TrafficPolicy,
};

use crate::idle;
use crate::route::error::InvalidRoute;
use crate::route::field::{header_name, micros, namespaced_name, port_field, status_field};
use crate::v1;
use crate::v1::descriptor_entry::Entry;
use crate::v1::fault::Kind as FaultMessage;
use crate::v1::hash_key::Key;
use crate::v1::load_balancer::Kind;

/// The reason why a message is not a TrafficPolicy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTrafficPolicy {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// A field has a value that it can't have.
    #[error("field {field}: {message}")]
    Field {
        /// Its path in the message.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A field that routes have, too.
    #[error(transparent)]
    OfRoute(#[from] InvalidRoute),
}

type Result<T> = std::result::Result<T, InvalidTrafficPolicy>;

impl InvalidTrafficPolicy {
    fn new(field: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self::Field { field, message }
    }
}

impl TryFrom<v1::TrafficPolicy> for TrafficPolicy {
    type Error = InvalidTrafficPolicy;

    fn try_from(message: v1::TrafficPolicy) -> Result<Self> {
        let locality = match message.locality() {
            v1::LocalityPreference::Any if message.locality_of_service => None,
            v1::LocalityPreference::Any => Some(LocalityPreference::Any),
            v1::LocalityPreference::Zone => Some(LocalityPreference::Zone),
            v1::LocalityPreference::Node => Some(LocalityPreference::Node),
            v1::LocalityPreference::Unspecified => {
                let what = format!("this version doesn't know {}", message.locality);
                return Err(InvalidTrafficPolicy::new("locality", what));
            }
        };
        let limits = message.limits.unwrap_or_default();
        let faults = message.faults.into_iter().map(fault);
        Ok(Self {
            service: namespaced_name("name", &message.namespace, &message.name)?,
            balancer: balancer(message.load_balancer)?,
            locality,
            slow_start: message.slow_start_us.map(Duration::from_micros),
            limits: Limits {
                connections: limits.connections,
                requests: limits.requests,
                pending_requests: limits.pending_requests,
            },
            circuit_breaker: message.circuit_breaker.map(circuit_breaker).transpose()?,
            outlier_detection: message.outlier_detection.map(outliers).transpose()?,
            retry_budget: message.retry_budget.map(budget).transpose()?,
            retry: message.retry.map(TryInto::try_into).transpose()?,
            timeouts: Timeouts {
                request: message.request_timeout_us.map(Duration::from_micros),
                backend_request: message
                    .backend_request_timeout_us
                    .map(Duration::from_micros),
            },
            idle_limits: idle::of_service(message.idle_limits, message.port_idle_limits),
            faults: faults.collect::<Result<_>>()?,
            local_rate_limit: message.local_rate_limit.map(Into::into),
            instance_rate_limit: message.instance_rate_limit.map(Into::into),
            global_rate_limit: message.global_rate_limit.map(global).transpose()?,
        })
    }
}

fn balancer(message: Option<v1::LoadBalancer>) -> Result<Balancer> {
    const MISSING: InvalidTrafficPolicy = InvalidTrafficPolicy::Missing("load_balancer.kind");
    match message.and_then(|message| message.kind).ok_or(MISSING)? {
        Kind::Ewma(v1::Ewma {}) => Ok(Balancer::Ewma),
        Kind::RoundRobin(v1::RoundRobin {}) => Ok(Balancer::RoundRobin),
        Kind::LeastRequest(v1::LeastRequest {}) => Ok(Balancer::LeastRequest),
        Kind::Random(v1::RandomChoice {}) => Ok(Balancer::Random),
        Kind::ConsistentHash(message) => Ok(Balancer::ConsistentHash(hash_key(message)?)),
    }
}

fn hash_key(message: v1::HashKey) -> Result<HashKey> {
    const FIELD: &str = "load_balancer.consistent_hash";
    match message.key.ok_or(InvalidTrafficPolicy::Missing(FIELD))? {
        Key::Header(name) => Ok(HashKey::Header(header_name(FIELD, &name)?)),
        Key::Cookie(cookie) if cookie.name.is_empty() => Err(InvalidTrafficPolicy::Missing(FIELD)),
        Key::Cookie(cookie) => Ok(HashKey::Cookie {
            name: cookie.name.into(),
            lifetime: cookie.lifetime_seconds.map(Duration::from_secs),
        }),
        Key::Source(v1::HashSource {}) => Ok(HashKey::Source),
    }
}

/// A number within what it is a share of.
fn share(field: &'static str, value: f64, whole: f64) -> Result<f64> {
    match value.is_finite() && (0.0..=whole).contains(&value) {
        true => Ok(value),
        false => {
            let what = format!("{value} is not between 0 and {whole}");
            Err(InvalidTrafficPolicy::new(field, what))
        }
    }
}

fn percent(field: &'static str, value: u32) -> Result<u8> {
    let percent = u8::try_from(value).ok().filter(|percent| *percent <= 100);
    let what = || format!("{value} is not between 0 and 100");
    percent.ok_or_else(|| InvalidTrafficPolicy::new(field, what()))
}

fn circuit_breaker(message: v1::CircuitBreaker) -> Result<CircuitBreaker> {
    let ratio = message.failure_ratio;
    let ratio = ratio.map(|ratio| share("circuit_breaker.failure_ratio", ratio, 1.0));
    Ok(CircuitBreaker {
        consecutive_failures: message.consecutive_failures,
        failure_ratio: ratio.transpose()?,
        minimum_requests: message.minimum_requests,
        window: Duration::from_micros(message.window_us),
        open_for: Duration::from_micros(message.open_for_us),
        probes: message.probes,
    })
}

fn outliers(message: v1::OutlierDetection) -> Result<OutlierDetection> {
    let ratio = message.failure_ratio;
    let ratio = ratio.map(|ratio| share("outlier_detection.failure_ratio", ratio, 1.0));
    let ejected = message.max_ejected_percent;
    Ok(OutlierDetection {
        consecutive_failures: message.consecutive_failures,
        failure_ratio: ratio.transpose()?,
        minimum_requests: message.minimum_requests,
        window: Duration::from_micros(message.window_us),
        base_ejection: Duration::from_micros(message.base_ejection_us),
        max_ejection: Duration::from_micros(message.max_ejection_us),
        max_ejected_percent: percent("outlier_detection.max_ejected_percent", ejected)?,
    })
}

fn budget(message: v1::RetryBudget) -> Result<RetryBudget> {
    Ok(RetryBudget {
        percent: percent("retry_budget.percent", message.percent)?,
        interval: Duration::from_micros(message.interval_us),
        minimum_per_second: message.minimum_per_second,
    })
}

fn fault(message: v1::Fault) -> Result<Fault> {
    const FIELD: &str = "faults.kind";
    // What this version doesn't know must not turn into something else.
    let kind = match message.kind.ok_or(InvalidTrafficPolicy::Missing(FIELD))? {
        FaultMessage::DelayUs(delay) => FaultKind::Delay(Duration::from_micros(delay)),
        FaultMessage::HttpStatus(code) => FaultKind::Abort(status_field(FIELD, code)?),
        FaultMessage::GrpcStatus(code) => {
            let what = |_| InvalidTrafficPolicy::new(FIELD, format!("{code} is not a gRPC status"));
            FaultKind::AbortGrpc(u16::try_from(code).map_err(what)?)
        }
    };
    let percent = share("faults.percent", message.percent, 100.0)?;
    Ok(Fault { kind, percent })
}

impl From<v1::TokenBucket> for LocalRateLimit {
    fn from(message: v1::TokenBucket) -> Self {
        Self {
            requests: message.requests,
            interval: Duration::from_micros(message.interval_us),
            burst: message.burst,
        }
    }
}

fn global(message: v1::GlobalRateLimit) -> Result<GlobalRateLimit> {
    const SERVER: &str = "global_rate_limit.server";
    let server = message.server.map(|server| -> Result<_> {
        let service = namespaced_name(SERVER, &server.namespace, &server.name)?;
        Ok((service, port_field(SERVER, server.port)?))
    });
    let descriptors = message.descriptors.into_iter().map(|descriptor| {
        let entries = descriptor.entries.into_iter();
        entries.map(|message| entry(message.entry)).collect()
    });
    Ok(GlobalRateLimit {
        server: server.transpose()?,
        domain: message.domain.into(),
        descriptors: descriptors.collect::<Result<_>>()?,
        limit: message.limit.map(Into::into),
        timeout: Duration::from_micros(message.timeout_us),
        fail_open: message.fail_open,
    })
}

fn entry(message: Option<Entry>) -> Result<DescriptorEntry> {
    const FIELD: &str = "global_rate_limit.descriptors.entries";
    match message.ok_or(InvalidTrafficPolicy::Missing(FIELD))? {
        Entry::Generic(v1::GenericEntry { key, value }) => Ok(DescriptorEntry::Generic {
            key: key.into(),
            value: value.into(),
        }),
        Entry::Header(v1::HeaderEntry { key, header }) => Ok(DescriptorEntry::Header {
            key: key.into(),
            header: header_name(FIELD, &header)?,
        }),
        Entry::SourceIdentity(v1::SourceIdentityEntry {}) => Ok(DescriptorEntry::SourceIdentity),
        Entry::Path(v1::PathEntry {}) => Ok(DescriptorEntry::Path),
        Entry::Method(v1::MethodEntry {}) => Ok(DescriptorEntry::Method),
    }
}

impl From<&TrafficPolicy> for v1::TrafficPolicy {
    fn from(policy: &TrafficPolicy) -> Self {
        let locality = match policy.locality.unwrap_or_default() {
            LocalityPreference::Any => v1::LocalityPreference::Any,
            LocalityPreference::Zone => v1::LocalityPreference::Zone,
            LocalityPreference::Node => v1::LocalityPreference::Node,
        };
        Self {
            namespace: policy.service.namespace.to_string(),
            name: policy.service.name.to_string(),
            load_balancer: Some((&policy.balancer).into()),
            locality: locality.into(),
            locality_of_service: policy.locality.is_none(),
            slow_start_us: policy.slow_start.map(micros),
            limits: Some(v1::Limits {
                connections: policy.limits.connections,
                requests: policy.limits.requests,
                pending_requests: policy.limits.pending_requests,
            }),
            circuit_breaker: policy.circuit_breaker.as_ref().map(Into::into),
            outlier_detection: policy.outlier_detection.as_ref().map(Into::into),
            retry_budget: policy.retry_budget.map(|budget| v1::RetryBudget {
                percent: budget.percent.into(),
                interval_us: micros(budget.interval),
                minimum_per_second: budget.minimum_per_second,
            }),
            retry: policy.retry.as_ref().map(Into::into),
            request_timeout_us: policy.timeouts.request.map(micros),
            backend_request_timeout_us: policy.timeouts.backend_request.map(micros),
            idle_limits: idle::message(policy.idle_limits.all),
            port_idle_limits: idle::port_messages(&policy.idle_limits),
            faults: policy.faults.iter().map(Into::into).collect(),
            local_rate_limit: policy.local_rate_limit.as_ref().map(Into::into),
            instance_rate_limit: policy.instance_rate_limit.as_ref().map(Into::into),
            global_rate_limit: policy.global_rate_limit.as_ref().map(Into::into),
        }
    }
}

impl From<&Balancer> for v1::LoadBalancer {
    fn from(balancer: &Balancer) -> Self {
        let kind = match balancer {
            Balancer::Ewma => Kind::Ewma(v1::Ewma {}),
            Balancer::RoundRobin => Kind::RoundRobin(v1::RoundRobin {}),
            Balancer::LeastRequest => Kind::LeastRequest(v1::LeastRequest {}),
            Balancer::Random => Kind::Random(v1::RandomChoice {}),
            Balancer::ConsistentHash(key) => {
                let key = Some(match key {
                    HashKey::Header(name) => Key::Header(name.to_string()),
                    HashKey::Cookie { name, lifetime } => Key::Cookie(v1::HashCookie {
                        name: name.to_string(),
                        lifetime_seconds: lifetime.map(|lifetime| lifetime.as_secs()),
                    }),
                    HashKey::Source => Key::Source(v1::HashSource {}),
                });
                Kind::ConsistentHash(v1::HashKey { key })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl From<&CircuitBreaker> for v1::CircuitBreaker {
    fn from(breaker: &CircuitBreaker) -> Self {
        Self {
            consecutive_failures: breaker.consecutive_failures,
            failure_ratio: breaker.failure_ratio,
            minimum_requests: breaker.minimum_requests,
            window_us: micros(breaker.window),
            open_for_us: micros(breaker.open_for),
            probes: breaker.probes,
        }
    }
}

impl From<&OutlierDetection> for v1::OutlierDetection {
    fn from(outliers: &OutlierDetection) -> Self {
        Self {
            consecutive_failures: outliers.consecutive_failures,
            failure_ratio: outliers.failure_ratio,
            minimum_requests: outliers.minimum_requests,
            window_us: micros(outliers.window),
            base_ejection_us: micros(outliers.base_ejection),
            max_ejection_us: micros(outliers.max_ejection),
            max_ejected_percent: outliers.max_ejected_percent.into(),
        }
    }
}

impl From<&Fault> for v1::Fault {
    fn from(fault: &Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::Delay(delay) => FaultMessage::DelayUs(micros(delay)),
            FaultKind::Abort(status) => FaultMessage::HttpStatus(status.as_u16().into()),
            FaultKind::AbortGrpc(status) => FaultMessage::GrpcStatus(status.into()),
        };
        Self {
            kind: Some(kind),
            percent: fault.percent,
        }
    }
}

impl From<&LocalRateLimit> for v1::TokenBucket {
    fn from(limit: &LocalRateLimit) -> Self {
        Self {
            requests: limit.requests,
            interval_us: micros(limit.interval),
            burst: limit.burst,
        }
    }
}

impl From<&GlobalRateLimit> for v1::GlobalRateLimit {
    fn from(limit: &GlobalRateLimit) -> Self {
        let server = limit.server.as_ref();
        let server = server.map(|(service, port)| v1::BackendService {
            namespace: service.namespace.to_string(),
            name: service.name.to_string(),
            port: (*port).into(),
        });
        let descriptors = limit.descriptors.iter().map(|entries| v1::Descriptor {
            entries: entries.iter().map(Into::into).collect(),
        });
        Self {
            server,
            domain: limit.domain.to_string(),
            descriptors: descriptors.collect(),
            limit: limit.limit.as_ref().map(Into::into),
            timeout_us: micros(limit.timeout),
            fail_open: limit.fail_open,
        }
    }
}

impl From<&DescriptorEntry> for v1::DescriptorEntry {
    fn from(entry: &DescriptorEntry) -> Self {
        let entry = match entry {
            DescriptorEntry::Generic { key, value } => Entry::Generic(v1::GenericEntry {
                key: key.to_string(),
                value: value.to_string(),
            }),
            DescriptorEntry::Header { key, header } => Entry::Header(v1::HeaderEntry {
                key: key.to_string(),
                header: header.to_string(),
            }),
            DescriptorEntry::SourceIdentity => Entry::SourceIdentity(v1::SourceIdentityEntry {}),
            DescriptorEntry::Path => Entry::Path(v1::PathEntry {}),
            DescriptorEntry::Method => Entry::Method(v1::MethodEntry {}),
        };
        Self { entry: Some(entry) }
    }
}

#[cfg(test)]
mod tests;
