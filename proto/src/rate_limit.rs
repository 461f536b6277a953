//! Descriptors and limits of Envoy's rate limit service.

use std::time::Duration;

use weft_model::traffic::rate_limit::{Descriptor, RateLimitUnit, RequestLimit};

use crate::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use crate::envoy::service::ratelimit::v3::rate_limit_response::RateLimit;
use crate::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit as WireUnit;

/// The reason why a descriptor can't be counted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidDescriptor {
    /// It has no pairs.
    #[error("a descriptor without entries")]
    Empty,
    /// A pair has no key.
    #[error("entry {0} of a descriptor has no key")]
    NoKey(usize),
    /// The limit's unit is none.
    #[error("{0} is not a unit of a limit")]
    Unit(i32),
}

/// The unit of a number on the wire; requests and responses number units alike.
///
/// # Errors
/// When it is none.
pub fn parse_unit(number: i32) -> Result<RateLimitUnit, InvalidDescriptor> {
    match WireUnit::try_from(number) {
        Ok(WireUnit::Second) => Ok(RateLimitUnit::Second),
        Ok(WireUnit::Minute) => Ok(RateLimitUnit::Minute),
        Ok(WireUnit::Hour) => Ok(RateLimitUnit::Hour),
        Ok(WireUnit::Day) => Ok(RateLimitUnit::Day),
        Ok(WireUnit::Week) => Ok(RateLimitUnit::Week),
        Ok(WireUnit::Month) => Ok(RateLimitUnit::Month),
        Ok(WireUnit::Year) => Ok(RateLimitUnit::Year),
        Ok(WireUnit::Unknown) | Err(_) => Err(InvalidDescriptor::Unit(number)),
    }
}

/// The number of a unit on the wire.
fn unit_number(unit: RateLimitUnit) -> i32 {
    let unit = match unit {
        RateLimitUnit::Second => WireUnit::Second,
        RateLimitUnit::Minute => WireUnit::Minute,
        RateLimitUnit::Hour => WireUnit::Hour,
        RateLimitUnit::Day => WireUnit::Day,
        RateLimitUnit::Week => WireUnit::Week,
        RateLimitUnit::Month => WireUnit::Month,
        RateLimitUnit::Year => WireUnit::Year,
    };
    unit.into()
}

/// The message for a descriptor to ask about, with its limit where the server need not know
/// it.
///
/// A limit for each week goes as one for each day: servers know weeks in their answers
/// only.
pub fn descriptor_message(
    descriptor: Descriptor,
    limit: Option<RequestLimit>,
) -> RateLimitDescriptor {
    let entry = |(key, value)| Entry { key, value };
    let limit = limit.map(|limit| match limit.unit {
        RateLimitUnit::Week => RateLimitOverride {
            requests_per_unit: limit.requests.div_ceil(7),
            unit: unit_number(RateLimitUnit::Day),
        },
        unit => RateLimitOverride {
            requests_per_unit: limit.requests,
            unit: unit_number(unit),
        },
    });
    RateLimitDescriptor {
        entries: descriptor.entries.into_iter().map(entry).collect(),
        limit,
        hits_addend: None,
    }
}

/// The descriptor of a message, and the limit that it brings along.
///
/// # Errors
/// When it can't be counted.
pub fn parse_descriptor(
    descriptor: &RateLimitDescriptor,
) -> Result<(Descriptor, Option<RequestLimit>), InvalidDescriptor> {
    if descriptor.entries.is_empty() {
        return Err(InvalidDescriptor::Empty);
    }
    if let Some(index) = descriptor.entries.iter().position(|e| e.key.is_empty()) {
        return Err(InvalidDescriptor::NoKey(index));
    }
    let pair = |entry: &Entry| (entry.key.clone(), entry.value.clone());
    let entries = descriptor.entries.iter().map(pair).collect();
    let limit = match &descriptor.limit {
        Some(limit) => Some(RequestLimit {
            requests: limit.requests_per_unit,
            unit: parse_unit(limit.unit)?,
        }),
        None => None,
    };
    Ok((Descriptor { entries }, limit))
}

/// The message for a limit, as a response carries it.
pub fn limit_message(limit: RequestLimit, name: &str) -> RateLimit {
    RateLimit {
        requests_per_unit: limit.requests,
        unit: unit_number(limit.unit),
        name: name.to_owned(),
    }
}

/// The message for a time in whole seconds.
pub fn duration_message(seconds: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

/// The time of a message; zero when it is negative.
pub fn parse_duration(duration: &prost_types::Duration) -> Duration {
    let nanos = u32::try_from(duration.nanos).unwrap_or_default();
    let seconds = u64::try_from(duration.seconds).unwrap_or_default();
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()))
}

#[cfg(test)]
mod tests;
