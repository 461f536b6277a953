//! Session affinity (`sessionAffinity: ClientIP`): the endpoint that a pod was at last, of each
//! Service that keeps its clients there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weft_model::NamespacedName;
use weft_model::mesh::Candidate;

use crate::sync::lock;

/// Sessions of a pod that are remembered: ports of Services, of which it uses few.
pub(super) const MOST_SESSIONS: usize = 1024;

/// The sessions of one pod.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<SessionKey, Session>>);

/// Port of a Service, and whether the endpoints are of IPv4: a client has a session of either
/// family.
type SessionKey = (NamespacedName, u16, bool);

#[derive(Clone, Copy, Debug)]
struct Session {
    endpoint: SocketAddr,
    used: Instant,
    /// Longest time from one use to the next.
    timeout: Duration,
}

/// The sessions of one pod, for a port of a Service that keeps its clients.
#[derive(Debug)]
pub(super) struct SessionAffinity {
    pub(super) sessions: Arc<Sessions>,
    pub(super) service: NamespacedName,
    pub(super) port: u16,
    pub(super) timeout: Duration,
}

impl SessionAffinity {
    /// Index of the candidate that is chosen by `choose`, which is told the one that the
    /// session is at; the session is there from now on.
    pub(super) fn choose(
        &self,
        candidates: &[Candidate],
        now: Instant,
        choose: impl FnOnce(Option<usize>) -> Option<usize>,
    ) -> Option<usize> {
        let is_ipv4 = candidates.first()?.address.is_ipv4();
        let key = (self.service.clone(), self.port, is_ipv4);
        // Held during the choice: connections that begin together get the same endpoint.
        let mut sessions = lock(&self.sessions.0);
        let known = sessions.get(&key).filter(|session| !session.is_over(now));
        let at = known.and_then(|session| {
            let mut addresses = candidates.iter().map(|candidate| candidate.address);
            addresses.position(|address| address == session.endpoint)
        });
        let chosen = choose(at)?;
        let session = Session {
            endpoint: candidates.get(chosen)?.address,
            used: now,
            timeout: self.timeout,
        };
        if known.is_none() {
            make_room(&mut sessions, now);
        }
        sessions.insert(key, session);
        Some(chosen)
    }
}

impl Sessions {
    /// Forgets those that are over.
    pub(super) fn forget_ended(&self, now: Instant) {
        lock(&self.0).retain(|_, session| !session.is_over(now));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// Makes room for one more session: those that are over go first, then the one that was used
/// least recently.
fn make_room(sessions: &mut HashMap<SessionKey, Session>, now: Instant) {
    if sessions.len() < MOST_SESSIONS {
        return;
    }
    sessions.retain(|_, session| !session.is_over(now));
    if sessions.len() < MOST_SESSIONS {
        return;
    }
    let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
    if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
        sessions.remove(&oldest);
    }
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= self.timeout
    }
}
