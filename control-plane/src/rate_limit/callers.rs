//! Callers of the service: agents, by their tokens. A verdict holds for a while, since the question
//! comes with every request of the data path.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use tonic::{Code, Request, Status};

use crate::serve::authentication::{self, Authenticator};

/// Time for which a token that was good is taken for good.
const GOOD: Duration = Duration::from_secs(30);
/// The same while whoever decides can't be asked: that is no refusal.
const GOOD_UNASKED: Duration = Duration::from_secs(600);
/// Tokens that are remembered.
const MOST: usize = 10_000;

/// The token itself is worth stealing.
type Hash = [u8; 32];

/// Decides about callers.
pub(super) struct Callers {
    authenticator: Authenticator,
    good: Mutex<HashMap<Hash, Instant>>,
    /// One asks again, the others wait for what it learns. Only for tokens that were good:
    /// a flood of others must not stand in their way.
    asking_again: tokio::sync::Mutex<()>,
}

impl Callers {
    pub(super) fn new(authenticator: Authenticator) -> Self {
        Self {
            authenticator,
            good: Mutex::default(),
            asking_again: tokio::sync::Mutex::default(),
        }
    }

    /// Lets a call in.
    ///
    /// # Errors
    /// As [`Authenticator::node`].
    pub(super) async fn admit<T>(&self, call: &Request<T>) -> Result<(), Status> {
        let token = authentication::token(call)?;
        let mut hash = Hash::default();
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if self.is_good(&hash, GOOD) {
            return Ok(());
        }
        let mut turn = None;
        if self.is_good(&hash, GOOD_UNASKED) {
            turn = Some(self.asking_again.lock().await);
            if self.is_good(&hash, GOOD) {
                return Ok(());
            }
        }
        let verdict = self.authenticator.node(call).await;
        drop(turn);
        match verdict {
            Ok(_) => {
                self.remember(hash);
                Ok(())
            }
            Err(status)
                if status.code() == Code::Unavailable && self.is_good(&hash, GOOD_UNASKED) =>
            {
                Ok(())
            }
            Err(status) => {
                if status.code() != Code::Unavailable {
                    self.lock().remove(&hash);
                }
                Err(status)
            }
        }
    }

    fn is_good(&self, hash: &Hash, within: Duration) -> bool {
        self.lock()
            .get(hash)
            .is_some_and(|at| at.elapsed() < within)
    }

    fn remember(&self, hash: Hash) {
        let mut good = self.lock();
        if good.len() >= MOST {
            good.retain(|_, at| at.elapsed() < GOOD);
        }
        if good.len() < MOST {
            good.insert(hash, Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Instant>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
