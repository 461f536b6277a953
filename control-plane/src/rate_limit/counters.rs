//! The two places to count hits in.

use super::hit::Hit;
use super::memory::Memory;
use super::redis::{Redis, RedisError};

/// A place to count hits in.
#[derive(Debug)]
pub(super) enum Counters {
    /// In this process.
    Memory(Memory),
    /// In one place for all replicas.
    Redis(Redis),
}

impl Counters {
    /// Counts everything together, and gives each count with its hits added.
    ///
    /// # Errors
    /// When nobody can count.
    pub(super) async fn count(&self, hits: &[Hit], now: u64) -> Result<Vec<u64>, RedisError> {
        match self {
            Self::Memory(memory) => Ok(memory.count(hits, now)),
            Self::Redis(redis) => redis.count(hits, now).await,
        }
    }
}
