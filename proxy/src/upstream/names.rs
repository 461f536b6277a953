//! Names of external services, looked up in DNS.
//!
//! Each pod has its own: its look-ups neither wait for those of another pod, nor take the place
//! of what another has found. An answer serves for a moment, one look-up of a name all who wait
//! for it, and only so many run at once: a client may ask for as many names as a wildcard
//! matches.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::sync::lock;

/// Names whose addresses are kept.
const MOST_NAMES: usize = 256;
/// Look-ups that run at once. Each is a thread of the system's resolver.
const MOST_LOOK_UPS: usize = 16;
/// How long an answer serves. The system's resolver doesn't tell how long the record lives;
/// those of services that move live for half a minute and more.
const FRESH: Duration = Duration::from_secs(10);
/// How long it serves that there is none.
const FAILURE_FRESH: Duration = Duration::from_secs(1);

/// The names that the clients of one pod have asked for.
#[derive(Debug)]
pub(crate) struct Names {
    known: Mutex<HashMap<Arc<str>, LookUp>>,
    permits: Arc<Semaphore>,
}

/// A look-up, under way or answered.
type LookUp = watch::Receiver<Option<Answer>>;

#[derive(Clone, Debug)]
struct Answer {
    addresses: Result<Arc<[IpAddr]>, (io::ErrorKind, Arc<str>)>,
    fresh_until: Instant,
}

impl Answer {
    fn new(found: io::Result<Vec<IpAddr>>) -> Self {
        let lives = if found.is_ok() { FRESH } else { FAILURE_FRESH };
        let failure = |error: io::Error| (error.kind(), error.to_string().into());
        Self {
            addresses: found.map(Arc::from).map_err(failure),
            fresh_until: Instant::now() + lives,
        }
    }

    fn addresses(self) -> io::Result<Arc<[IpAddr]>> {
        let failure = |(kind, text): (_, Arc<str>)| io::Error::new(kind, text.to_string());
        self.addresses.map_err(failure)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            permits: Arc::new(Semaphore::new(MOST_LOOK_UPS)),
        }
    }
}

impl Names {
    /// The addresses of a name, from DNS where nobody has asked for it just now.
    ///
    /// # Errors
    /// When there are none, or nobody says so within `limit`.
    pub(crate) async fn addresses(
        &self,
        name: &Arc<str>,
        limit: Duration,
    ) -> io::Result<Arc<[IpAddr]>> {
        self.addresses_by(name, limit, system_look_up).await
    }

    /// The same, looked up so.
    async fn addresses_by<F>(
        &self,
        name: &Arc<str>,
        limit: Duration,
        look_up: impl FnOnce(String) -> F,
    ) -> io::Result<Arc<[IpAddr]>>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let answered = async {
            let mut known = match self.known(name) {
                Some(known) => known,
                None => self.begin(name, look_up).await?,
            };
            let answer = known.wait_for(Option::is_some).await;
            let lost = |_| io::Error::other("the look-up was given up");
            let answer = answer.map_err(lost)?.clone();
            answer.map_or_else(|| Err(io::ErrorKind::NotFound.into()), Answer::addresses)
        };
        let answered = tokio::time::timeout(limit, answered).await;
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The look-up that is under way, or whose answer still serves.
    fn known(&self, name: &str) -> Option<LookUp> {
        let known = lock(&self.known);
        known.get(name).filter(|known| serves(known)).cloned()
    }

    /// Looks a name up, as soon as there is a permit.
    async fn begin<F>(
        &self,
        name: &Arc<str>,
        look_up: impl FnOnce(String) -> F,
    ) -> io::Result<LookUp>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let mut known = lock(&self.known);
        // Somebody else may have begun meanwhile.
        if let Some(begun) = known.get(name).filter(|known| serves(known)) {
            return Ok(begun.clone());
        }
        make_room(&mut known);
        let (answer, begun) = watch::channel(None);
        known.insert(Arc::clone(name), begun.clone());
        drop(known);
        tokio::spawn(run(look_up(absolute(name)), answer, permit));
        Ok(begun)
    }
}

/// A look-up to its end. It holds its permit for as long: the resolver can't be stopped when
/// nobody waits for it any more.
async fn run(
    look_up: impl Future<Output = io::Result<Vec<IpAddr>>>,
    answer: watch::Sender<Option<Answer>>,
    permit: OwnedSemaphorePermit,
) {
    answer.send_replace(Some(Answer::new(look_up.await)));
    drop(permit);
}

/// Whether a look-up is under way, or its answer not too old.
fn serves(look_up: &LookUp) -> bool {
    match &*look_up.borrow() {
        Some(answer) => Instant::now() < answer.fresh_until,
        // Without a sender it ended without an answer.
        None => look_up.has_changed().is_ok(),
    }
}

/// Forgets what is too old, else the answer that would be so first.
fn make_room(known: &mut HashMap<Arc<str>, LookUp>) {
    if known.len() < MOST_NAMES {
        return;
    }
    known.retain(|_, look_up| serves(look_up));
    if known.len() < MOST_NAMES {
        return;
    }
    let fresh_until = |look_up: &LookUp| Some(look_up.borrow().as_ref()?.fresh_until);
    let answered = known.iter();
    let answered = answered.filter_map(|(name, look_up)| Some((fresh_until(look_up)?, name)));
    if let Some(oldest) = answered.min().map(|(_, name)| Arc::clone(name)) {
        known.remove(&oldest);
    }
}

/// The name as seen from the root of DNS (RFC 1034 section 3.1): the search domains of the
/// node's resolver would ask for another one first, which somebody in the cluster may have.
/// `localhost` is no name of DNS (RFC 6761 section 6.3).
fn absolute(name: &str) -> String {
    match name.ends_with('.') || name == "localhost" {
        true => name.to_owned(),
        false => format!("{name}."),
    }
}

async fn system_look_up(name: String) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    Ok(found.map(|address: SocketAddr| address.ip()).collect())
}

#[cfg(test)]
mod tests;
