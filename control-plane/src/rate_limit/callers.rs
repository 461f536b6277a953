//! Callers of the service: agents, by their tokens. A verdict holds for a while, since the question
//! comes with every request of the data path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// A token that was good.
#[derive(Clone, Debug)]
struct GoodToken {
    at: Instant,
    /// The node or the pod that it speaks for.
    principal: Arc<str>,
}

/// Decides about callers.
pub(super) struct Callers {
    authenticator: Authenticator,
    good: Mutex<HashMap<Hash, GoodToken>>,
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
    /// As [`Authenticator::principal`].
    pub(super) async fn admit<T>(&self, call: &Request<T>) -> Result<(), Status> {
        let principal = self.check(call).await?;
        authentication::is_known(call, &principal)
    }

    /// The one that a call's token speaks for.
    async fn check<T>(&self, call: &Request<T>) -> Result<Arc<str>, Status> {
        let token = authentication::token(call)?;
        let mut hash = Hash::default();
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(principal) = self.good(&hash, GOOD) {
            return Ok(principal);
        }
        let mut turn = None;
        if self.good(&hash, GOOD_UNASKED).is_some() {
            turn = Some(self.asking_again.lock().await);
            if let Some(principal) = self.good(&hash, GOOD) {
                return Ok(principal);
            }
        }
        let verdict = self.authenticator.principal(call).await;
        drop(turn);
        match verdict {
            Ok(principal) => {
                let principal = Arc::<str>::from(principal.to_string());
                self.remember(hash, &principal);
                Ok(principal)
            }
            Err(status) if status.code() == Code::Unavailable => {
                self.good(&hash, GOOD_UNASKED).ok_or(status)
            }
            Err(status) => {
                // That a node has too many connections says nothing about its token.
                if status.code() != Code::ResourceExhausted {
                    self.lock().remove(&hash);
                }
                Err(status)
            }
        }
    }

    /// The one that a token speaks for that was good not long ago.
    fn good(&self, hash: &Hash, within: Duration) -> Option<Arc<str>> {
        let good = self.lock();
        let token = good.get(hash).filter(|token| token.at.elapsed() < within);
        token.map(|token| Arc::clone(&token.principal))
    }

    fn remember(&self, hash: Hash, principal: &Arc<str>) {
        let mut good = self.lock();
        if good.len() >= MOST {
            good.retain(|_, token| token.at.elapsed() < GOOD);
        }
        if good.len() < MOST {
            let (at, principal) = (Instant::now(), Arc::clone(principal));
            good.insert(hash, GoodToken { at, principal });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, GoodToken>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
