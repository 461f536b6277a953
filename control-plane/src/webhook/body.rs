//! The bodies of reviews, and how much of them is in memory at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest review in bytes. etcd takes objects of 1.5 MiB, and an update sends two.
pub(super) const LARGEST: usize = 8 * 1024 * 1024;
/// Bytes of a review that are always taken.
pub(super) const SMALL: usize = 256 * 1024;
/// Reviews of which more than that has come, at once.
pub(super) const LARGE_AT_ONCE: usize = 8;
/// Time that such a review has for its rest where another one waits. An API server needs a
/// small part of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Why a review was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It is too large, or its connection broke.
    #[error("{0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// It doesn't come, and another one does.
    #[error("too slow")]
    TooSlow,
}

/// The turns of large reviews.
#[derive(Debug)]
pub(super) struct Bodies {
    turns: Semaphore,
    /// Turns that somebody waits for: who has one for too long gives it up for one of these.
    wanted: Semaphore,
    /// Those that were given up for somebody who doesn't have it yet.
    given_up: AtomicUsize,
}

/// Somebody waits for a turn, until this is dropped.
struct Wanted<'a>(&'a Bodies);

impl<'a> Wanted<'a> {
    fn new(bodies: &'a Bodies) -> Self {
        bodies.wanted.add_permits(1);
        Self(bodies)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let Self(bodies) = self;
        let less = |given_up: usize| given_up.checked_sub(1);
        let order = Ordering::Relaxed;
        if bodies.given_up.fetch_update(order, order, less).is_ok() {
            return;
        }
        // It came by itself: nobody need give one up any more.
        if let Ok(wanted) = bodies.wanted.try_acquire() {
            wanted.forget();
        }
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(LARGE_AT_ONCE),
            wanted: Semaphore::new(0),
            given_up: AtomicUsize::new(0),
        }
    }
}

impl Bodies {
    /// Reads a review. What it announces is nothing: as long as no more than a small one has
    /// come, it takes no turn.
    ///
    /// # Errors
    /// When it is too large, too slow, or breaks off.
    pub(super) async fn read<B>(&self, body: B) -> Result<Bytes, BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut body = Limited::new(body, LARGEST);
        let mut read = Vec::new();
        if read_until(&mut body, &mut read, SMALL).await? {
            return Ok(read.into());
        }
        let _turn = self.turn().await;
        tokio::select! {
            rest = read_until(&mut body, &mut read, usize::MAX) => rest.map(|_| read.into()),
            () = self.give_up() => Err(BodyError::TooSlow),
        }
    }

    /// A turn; none is ever refused.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Some(turn);
        }
        let _wanted = Wanted::new(self);
        self.turns.acquire().await.ok()
    }

    /// Resolves when a turn that begins now has lasted long enough, and somebody waits for one.
    async fn give_up(&self) {
        tokio::time::sleep(PATIENCE).await;
        match self.wanted.acquire().await {
            Ok(wanted) => {
                self.given_up.fetch_add(1, Ordering::Relaxed);
                wanted.forget();
            }
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Reads on until there are more bytes than that; whether the body has ended.
async fn read_until<B>(
    body: &mut Limited<B>,
    read: &mut Vec<u8>,
    most: usize,
) -> Result<bool, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    while read.len() <= most {
        match body.frame().await {
            None => return Ok(true),
            Some(frame) => {
                let frame = frame.map_err(BodyError::Broken)?;
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
        }
    }
    Ok(false)
}
