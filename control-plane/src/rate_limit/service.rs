//! `RateLimitService.ShouldRateLimit`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tonic::{Request, Response, Status};
use weft_model::traffic::rate_limit::{Descriptor, RequestLimit};
use weft_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use weft_proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use weft_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService as Protocol, RateLimitServiceServer,
};
use weft_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use weft_proto::rate_limit::{duration_message, limit_message, parse_descriptor};

use super::callers::Callers;
use super::counters::Counters;
use super::hit::{self, Hit};
use super::limits::{Found, Limits};
use super::stats::{self, Stats};
use crate::serve::authentication::Authenticator;

/// Descriptors of one request.
const MOST_DESCRIPTORS: usize = 64;
/// Entries of one descriptor.
const MOST_ENTRIES: usize = 32;
/// Bytes of one request: values may be whole paths and headers.
const LARGEST_REQUEST: usize = 256 * 1024;

/// The service.
pub(crate) struct RateLimitService {
    limits: Arc<ArcSwap<Limits>>,
    counters: Counters,
    callers: Callers,
    stats: Arc<Stats>,
}

/// A descriptor as it is known before anything is counted.
enum Plan {
    /// Nothing limits it.
    NoLimit,
    /// It was said to be unlimited.
    Unlimited,
    /// It is counted.
    Counted {
        limit: RequestLimit,
        name: String,
        shadow: bool,
        hit: Hit,
    },
}

impl RateLimitService {
    pub(super) fn new(
        limits: Arc<ArcSwap<Limits>>,
        counters: Counters,
        authenticator: Authenticator,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            limits,
            counters,
            callers: Callers::new(authenticator),
            stats,
        }
    }

    /// For the gRPC server.
    pub(crate) fn into_server(self) -> RateLimitServiceServer<Self> {
        RateLimitServiceServer::new(self).max_decoding_message_size(LARGEST_REQUEST)
    }

    async fn answer(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
        let plans = plan(&self.limits.load(), request)?;
        let hits: Vec<Hit> = plans
            .iter()
            .filter_map(|plan| match plan {
                Plan::Counted { hit, .. } => Some(hit.clone()),
                Plan::NoLimit | Plan::Unlimited => None,
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let counts = self.counters.count(&hits, now).await;
        let counts = counts.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(respond(&plans, &counts, now))
    }
}

#[tonic::async_trait]
impl Protocol for RateLimitService {
    async fn should_rate_limit(
        &self,
        call: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        if let Err(status) = self.callers.admit(&call).await {
            stats::count(&self.stats.refused);
            return Err(status);
        }
        let answer = self.answer(call.get_ref()).await;
        stats::count(match &answer {
            Ok(response) if response.overall_code() == Code::OverLimit => &self.stats.limited,
            Ok(_) => &self.stats.allowed,
            Err(_) => &self.stats.failed,
        });
        answer.map(Response::new)
    }
}

/// Everything that has to be counted for a request.
fn plan(limits: &Limits, request: &RateLimitRequest) -> Result<Vec<Plan>, Status> {
    if request.domain.is_empty() {
        return Err(Status::invalid_argument("a request without a domain"));
    }
    if !(1..=MOST_DESCRIPTORS).contains(&request.descriptors.len()) {
        return Err(Status::invalid_argument(format!(
            "{} descriptors; a request has 1 to {MOST_DESCRIPTORS}",
            request.descriptors.len()
        )));
    }
    let mut replaced = HashSet::new();
    let planned = request.descriptors.iter().map(|descriptor| {
        let hits = descriptor.hits_addend;
        let hits = hits.unwrap_or(request.hits_addend.max(1).into());
        let hits = u32::try_from(hits).unwrap_or(u32::MAX);
        plan_one(limits, &request.domain, descriptor, hits, &mut replaced)
    });
    let mut plans = planned.collect::<Result<Vec<_>, _>>()?;
    for plan in &mut plans {
        if matches!(plan, Plan::Counted { name, .. } if replaced.contains(name)) {
            *plan = Plan::NoLimit;
        }
    }
    Ok(plans)
}

fn plan_one(
    limits: &Limits,
    domain: &str,
    descriptor: &RateLimitDescriptor,
    hits: u32,
    replaced: &mut HashSet<String>,
) -> Result<Plan, Status> {
    if descriptor.entries.len() > MOST_ENTRIES {
        let message = format!("more than {MOST_ENTRIES} entries in a descriptor");
        return Err(Status::invalid_argument(message));
    }
    let (asked, limit) = parse_descriptor(descriptor)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    // Agents say first whose policy asks: nobody counts in a namespace of others.
    let (tenant, of_file) = domain.split_once('/').unwrap_or(("", domain));
    let hit = |counted: &Descriptor, unit| Hit {
        tenant: tenant.to_owned(),
        key: hit::key(domain, counted, unit),
        unit,
        hits,
    };
    if let Some(limit) = limit {
        return Ok(Plan::Counted {
            limit,
            name: String::new(),
            shadow: false,
            hit: hit(&asked, limit.unit),
        });
    }
    let Some(Found { rule, counted }) = limits.find(of_file, &asked) else {
        return Ok(Plan::NoLimit);
    };
    replaced.extend(rule.replaces.iter().cloned());
    Ok(match rule.limit {
        None => Plan::Unlimited,
        Some(limit) => Plan::Counted {
            limit,
            name: rule.name.clone(),
            shadow: rule.shadow,
            hit: hit(&counted, limit.unit),
        },
    })
}

/// The answer, once everything has been counted.
fn respond(plans: &[Plan], counts: &[u64], now: u64) -> RateLimitResponse {
    let mut counts = counts.iter();
    let status = |plan: &Plan| match plan {
        Plan::NoLimit => DescriptorStatus {
            code: Code::Ok.into(),
            ..Default::default()
        },
        Plan::Unlimited => DescriptorStatus {
            code: Code::Ok.into(),
            limit_remaining: u32::MAX,
            ..Default::default()
        },
        Plan::Counted {
            limit,
            name,
            shadow,
            hit,
        } => {
            let count = counts.next().copied().unwrap_or_default();
            let most = u64::from(limit.requests);
            let code = if count > most && !shadow {
                Code::OverLimit
            } else {
                Code::Ok
            };
            // Never more than the limit, which is of that size.
            let remaining = u32::try_from(most.saturating_sub(count)).unwrap_or(u32::MAX);
            DescriptorStatus {
                code: code.into(),
                current_limit: Some(limit_message(*limit, name)),
                limit_remaining: remaining,
                duration_until_reset: Some(duration_message(hit.unit.seconds_until_reset(now))),
            }
        }
    };
    let statuses: Vec<_> = plans.iter().map(status).collect();
    let over = |status: &DescriptorStatus| status.code() == Code::OverLimit;
    let overall = if statuses.iter().any(over) {
        Code::OverLimit
    } else {
        Code::Ok
    };
    RateLimitResponse {
        overall_code: overall.into(),
        statuses,
        ..Default::default()
    }
}
