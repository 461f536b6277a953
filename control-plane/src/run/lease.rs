//! The one replica that does what only one may: the holder of a coordination.k8s.io Lease.
//!
//! Clocks of replicas differ, so nobody compares the times in the lease with its own:
//! a lease has ended when it was not renewed for as long as it lasts, as watched by
//! whoever waits for it. Two holders at once are excluded by the API server, which
//! takes an update of what was read only.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;

/// Time for which a holder that doesn't renew stays the holder.
const DURATION: Duration = Duration::from_secs(15);
/// Time between two renewals by the holder, and two looks by the others.
const INTERVAL: Duration = Duration::from_secs(5);
/// A holder that could not renew for so long stops on its own, before others start.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A claim to a lease.
pub(crate) struct Lease {
    api: Api<Object>,
    name: String,
    identity: String,
}

/// Does something whenever the lease is held, from its beginning; drops it, wherever it
/// is, when the lease is lost. Never ends.
pub(crate) async fn while_held<F: Future<Output = ()>>(
    mut held: watch::Receiver<bool>,
    work: impl Fn() -> F,
) {
    loop {
        if held.wait_for(|held| *held).await.is_err() {
            // The claim has ended with the process.
            return std::future::pending().await;
        }
        tokio::select! {
            () = work() => {}
            _ = held.wait_for(|held| !held) => {}
        }
    }
}

/// The lease as it was seen, and since when.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    since: Instant,
}

/// The next step of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Decision {
    /// Be, or stay, the holder.
    Take,
    Wait,
}

/// Decides, and notes what it saw.
fn decide(seen: &mut Option<Seen>, spec: &LeaseSpec, identity: &str, now: Instant) -> Decision {
    let holder = spec.holder_identity.clone().unwrap_or_default();
    if holder == identity || holder.is_empty() {
        return Decision::Take;
    }
    match seen {
        Some(seen) if seen.holder == holder && seen.renewed == spec.renew_time => {
            let lasts = spec
                .lease_duration_seconds
                .and_then(|s| u64::try_from(s).ok());
            let lasts = lasts.map_or(DURATION, Duration::from_secs);
            if now.duration_since(seen.since) > lasts {
                Decision::Take
            } else {
                Decision::Wait
            }
        }
        _ => {
            *seen = Some(Seen {
                holder,
                renewed: spec.renew_time.clone(),
                since: now,
            });
            Decision::Wait
        }
    }
}

impl Lease {
    /// A claim in the name of `identity`, which no other process may use.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
        }
    }

    /// Claims until told to stop; then gives it up, so that nobody has to wait for its
    /// end. Says whether it is held now.
    pub(crate) async fn claim(self, held: watch::Sender<bool>, mut stop: watch::Receiver<bool>) {
        let mut seen = None;
        let mut renewed = Instant::now();
        loop {
            match self.try_claim(&mut seen).await {
                Ok(now) => {
                    renewed = Instant::now();
                    self.say(&held, now);
                }
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "can't claim the lease");
                    if renewed.elapsed() > GIVE_UP {
                        self.say(&held, false);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        if held.send_replace(false)
            && let Err(error) = self.release().await
        {
            tracing::warn!(%error, lease = self.name, "can't give up the lease");
        }
    }

    fn say(&self, held: &watch::Sender<bool>, now: bool) {
        held.send_if_modified(|held| {
            let changed = *held != now;
            if changed {
                tracing::info!(
                    lease = self.name,
                    identity = self.identity,
                    held = now,
                    "lease"
                );
            }
            *held = now;
            changed
        });
    }

    async fn try_claim(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let fresh = Object {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..Default::default()
                },
                spec: Some(self.spec(&LeaseSpec::default())),
            };
            return won(self.api.create(&PostParams::default(), &fresh).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        if decide(seen, &spec, &self.identity, Instant::now()) == Decision::Wait {
            return Ok(false);
        }
        lease.spec = Some(self.spec(&spec));
        let parameters = PostParams::default();
        won(self.api.replace(&self.name, &parameters, &lease).await)
    }

    fn spec(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = || Some(MicroTime(jiff::Timestamp::now()));
        let stays = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            renew_time: now(),
            acquire_time: if stays {
                before.acquire_time.clone()
            } else {
                now()
            },
            lease_transitions: Some(transitions + i32::from(!stays)),
            ..Default::default()
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_ref() == Some(&self.identity)
        {
            spec.holder_identity = None;
            let parameters = PostParams::default();
            won(self.api.replace(&self.name, &parameters, &lease).await)?;
        }
        Ok(())
    }
}

/// A conflict means that somebody else was first.
fn won<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(jiff::Timestamp::from_second(renewed).unwrap())),
            ..Default::default()
        }
    }

    #[test]
    fn a_free_or_own_lease_is_taken() {
        let now = Instant::now();
        assert_eq!(
            decide(&mut None, &LeaseSpec::default(), "a", now),
            Decision::Take
        );
        assert_eq!(decide(&mut None, &spec("a", 0), "a", now), Decision::Take);
    }

    #[test]
    fn anothers_lease_is_taken_only_after_it_was_seen_unrenewed_for_its_duration() {
        let (mut seen, start) = (None, Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        // However old it says it is: clocks differ.
        assert_eq!(
            decide(&mut seen, &spec("b", 0), "a", after(0)),
            Decision::Wait
        );
        assert_eq!(
            decide(&mut seen, &spec("b", 0), "a", after(14)),
            Decision::Wait
        );
        assert_eq!(
            decide(&mut seen, &spec("b", 5), "a", after(16)),
            Decision::Wait
        );
        assert_eq!(
            decide(&mut seen, &spec("b", 5), "a", after(30)),
            Decision::Wait
        );
        assert_eq!(
            decide(&mut seen, &spec("b", 5), "a", after(32)),
            Decision::Take
        );
    }

    #[test]
    fn a_new_holder_gets_its_time() {
        let (mut seen, start) = (None, Instant::now());
        decide(&mut seen, &spec("b", 0), "a", start);
        let later = start + Duration::from_secs(20);
        assert_eq!(decide(&mut seen, &spec("c", 0), "a", later), Decision::Wait);
    }
}
