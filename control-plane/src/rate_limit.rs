//! Envoy's rate limit service (`envoy.service.ratelimit.v3`): counts what all clients
//! together ask for, in fixed windows, as Envoy's own server does.
//!
//! * [`service`]: the protocol
//! * [`callers`]: who may ask
//! * [`file`]: the limits of `--rate-limit-config`, as they are written
//! * [`limits`]: which limit a descriptor has (pure)
//! * [`hit`]: what is counted, and under which key (pure)
//! * [`counters`]: where hits are counted: in memory, or in Redis for all replicas
//! * [`stats`]: what happened, for the metrics

mod callers;
mod counters;
mod file;
mod hit;
mod limits;
mod memory;
mod redis;
mod service;
mod stats;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::counters::Counters;
use self::limits::Limits;
pub(crate) use self::redis::{InvalidRedis, RedisOptions};
pub(crate) use self::service::RateLimitService;
pub(crate) use self::stats::Stats;
use crate::serve::authentication::Authenticator;

/// Settings of the service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// File with limits; it may come later, and is followed.
    pub(crate) config: Option<PathBuf>,
    /// The Redis in which all replicas count together; each counts for itself when `None`.
    pub(crate) redis: Option<RedisOptions>,
}

/// The service, ready to be served.
///
/// # Errors
/// When the file is there and can't be used.
pub(crate) fn start(
    options: Options,
    authenticator: Authenticator,
    stats: Arc<Stats>,
) -> Result<RateLimitService, file::FileError> {
    let limits = Arc::new(ArcSwap::from_pointee(Limits::default()));
    if let Some(path) = options.config {
        file::follow(path, Arc::clone(&limits))?;
    }
    let counters = match options.redis {
        Some(options) => Counters::Redis(redis::Redis::start(options)),
        None => Counters::Memory(memory::Memory::new(memory::MOST_KEYS, Arc::clone(&stats))),
    };
    Ok(RateLimitService::new(
        limits,
        counters,
        authenticator,
        stats,
    ))
}

pub(crate) use self::file::FileError;

/// The number of domains in a file of limits that would be taken.
///
/// # Errors
/// The first thing that is wrong with it, in words.
pub fn check_limits(text: &str) -> Result<usize, String> {
    let limits = file::parse(text).map_err(|error| error.to_string())?;
    Ok(limits.domains())
}

#[cfg(test)]
mod tests;
