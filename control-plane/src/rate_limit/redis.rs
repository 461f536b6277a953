//! Counting in Redis, or in Valkey: one key a window, made and given its end in one
//! transaction, so that none stays for ever.
//!
//! One connection carries everything, many requests at a time. While the server is away,
//! whoever asks is told so at once, and it is tried again every second.

mod error;
mod options;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use self::wire::Connection;
use super::hit::Hit;

pub(crate) use self::error::RedisError;
pub(crate) use self::options::{InvalidRedis, RedisOptions};

/// Time limit of a connection's beginning.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of the answers to a batch.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for which it is left alone after it has failed.
const RETRY: Duration = Duration::from_secs(1);
/// Requests that wait for their turn; more are refused.
const WAITING: usize = 4096;
/// Requests that are sent together.
const BATCH: usize = 256;

/// A request that waits.
struct Job {
    /// The transaction as it is sent.
    transaction: Vec<u8>,
    /// Counts that it gives.
    counts: usize,
    answer: oneshot::Sender<Result<Vec<u64>, RedisError>>,
}

/// The connection, made when first needed and again after it broke.
#[derive(Debug)]
pub(super) struct Redis(mpsc::Sender<Job>);

impl Redis {
    /// Prepares it. Needs a running tokio runtime; ends when dropped.
    pub(super) fn start(options: RedisOptions) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING);
        tokio::spawn(drive(options, waiting));
        Self(jobs)
    }

    /// Adds hits, and gives each count with them added.
    ///
    /// # Errors
    /// When it can't be reached, doesn't answer, or answers with an error.
    pub(super) async fn count(&self, hits: &[Hit], now: u64) -> Result<Vec<u64>, RedisError> {
        if hits.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let job = Job {
            transaction: wire::transaction(hits, now),
            counts: hits.len(),
            answer,
        };
        self.0.try_send(job).map_err(|_| RedisError::Busy)?;
        answered.await.unwrap_or(Err(RedisError::Busy))
    }
}

/// Serves what waits, one batch after the other.
async fn drive(options: RedisOptions, mut waiting: mpsc::Receiver<Job>) {
    let (mut connection, mut batch) = (None, Vec::new());
    let mut away: Option<(Instant, RedisError)> = None;
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        // Whoever has given up is not counted.
        batch.retain(|job: &Job| !job.answer.is_closed());
        if let Some((since, error)) = &away
            && since.elapsed() < RETRY
        {
            fail(&mut batch, error);
            continue;
        }
        match serve(&options, &mut connection, &mut batch).await {
            Ok(()) => {
                if away.take().is_some() {
                    tracing::info!(address = %options.address, "Redis is back");
                }
            }
            Err(error) => {
                connection = None;
                if away.is_none() {
                    tracing::warn!(%error, "rate limits are not counted; whether requests are let through is each policy's choice");
                }
                fail(&mut batch, &error);
                away = Some((Instant::now(), error));
            }
        }
    }
}

fn fail(batch: &mut Vec<Job>, error: &RedisError) {
    for job in batch.drain(..) {
        // Whoever has given up doesn't need to know.
        let _ = job.answer.send(Err(error.clone()));
    }
}

/// Sends a batch and answers all of it; what fails leaves the rest in the batch.
async fn serve(
    options: &RedisOptions,
    connection: &mut Option<Connection>,
    batch: &mut Vec<Job>,
) -> Result<(), RedisError> {
    // A connection that was closed while nobody looked is noticed now: then once more,
    // unless something was answered, and so may have been counted.
    let (kept, whole) = (connection.is_some(), batch.len());
    match serve_once(options, connection, batch).await {
        Err(RedisError::Unreachable { .. }) if kept && batch.len() == whole => {
            *connection = None;
            serve_once(options, connection, batch).await
        }
        other => other,
    }
}

async fn serve_once(
    options: &RedisOptions,
    connection: &mut Option<Connection>,
    batch: &mut Vec<Job>,
) -> Result<(), RedisError> {
    let late = |_| RedisError::Late(Arc::clone(&options.address));
    let connected = match connection.take() {
        Some(connected) => connected,
        None => tokio::time::timeout(CONNECT_TIMEOUT, Connection::open(options))
            .await
            .map_err(late)??,
    };
    let connected = connection.insert(connected);
    let exchanged = async {
        let transactions: Vec<_> = batch.iter().map(|job| job.transaction.as_slice()).collect();
        connected.send(&transactions.concat()).await?;
        while let Some(first) = batch.first() {
            let counts = connected.counts(first.counts).await?;
            let _ = batch.remove(0).answer.send(Ok(counts));
        }
        Ok(())
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchanged)
        .await
        .map_err(late)?
}

#[cfg(all(test, feature = "redis-tests"))]
pub(super) mod tests;
