//! How many connections one pod may have through the proxy, both directions together: whoever
//! connects to it leaves a part for those that the pod makes itself.
//!
//! * `descriptors`: what connections have of the process's descriptors, and one pod of that
//! * `handshakes`: connections whose clients have proven nothing yet
//! * `spare`: the descriptor for the moment when there is no other
//! * `turns`: handshakes of many clients, beside others' work on the same thread

mod descriptors;
mod handshakes;
mod spare;
mod turns;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use self::descriptors::{DescriptorAccount, DescriptorShare, PodDescriptors};
pub(crate) use self::handshakes::{Handshake, Handshakes};
pub(crate) use self::spare::SpareDescriptor;

/// Who begins a connection of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    /// Somebody connects to the pod.
    Inbound,
    /// The pod connects to somebody.
    Outbound,
}

/// The limit of one pod's connections.
#[derive(Debug)]
pub(crate) struct AdmissionLimit {
    permits: Arc<Semaphore>,
    limit: u32,
    inbound: Arc<Semaphore>,
    outbound: Arc<Semaphore>,
    descriptors: Arc<PodDescriptors>,
}

/// One connection's permit under its pod's limit, where it has none yet, and the descriptor of the
/// end that comes with it; given back when dropped.
#[derive(Debug)]
#[allow(dead_code, reason = "held for its drop")]
pub(crate) struct Admission(Option<ConnectionPermits>, DescriptorShare);

/// One connection's permit of its direction, and of both together.
#[derive(Debug)]
#[allow(dead_code, reason = "held for its drop")]
struct ConnectionPermits(OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Connections that one direction may have of as many: three quarters, rounded up.
fn share_of_direction(limit: u32) -> u32 {
    limit - limit / 4
}

fn semaphore(permits: u32) -> Arc<Semaphore> {
    let permits = usize::try_from(permits).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(permits))
}

impl AdmissionLimit {
    /// A limit of that many connections, none of them open, whose descriptors are the pod's.
    pub(crate) fn new(limit: u32, descriptors: Arc<PodDescriptors>) -> Self {
        let limit = limit.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        let share = share_of_direction(limit);
        Self {
            permits: semaphore(limit),
            limit,
            inbound: semaphore(share),
            outbound: semaphore(share),
            descriptors,
        }
    }

    /// A permit for one more connection; `None` when the pod has as many as it may, or as many of
    /// that direction.
    pub(crate) fn admit(&self, direction: Direction) -> Option<Admission> {
        let of_direction = match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        };
        let of_direction = Arc::clone(of_direction).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let share = self.descriptors.take()?;
        Some(Admission(
            Some(ConnectionPermits(of_direction, of_all)),
            share,
        ))
    }

    /// For the other end of a connection that has its permit already; `None` when the pod has as
    /// many descriptors as it may.
    pub(crate) fn admit_end(&self) -> Option<Admission> {
        Some(Admission(None, self.descriptors.take()?))
    }

    /// Resolves when no connection is open.
    pub(crate) async fn all_ended(&self) {
        // The semaphore is never closed.
        let _all = self.permits.acquire_many(self.limit).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(connections: u32) -> AdmissionLimit {
        AdmissionLimit::new(connections, Arc::default())
    }

    #[tokio::test]
    async fn over_the_limit_nobody_is_admitted_until_a_permit_is_given_back() {
        let limit = limit_of(2);
        let admit = || limit.admit(Direction::Outbound);
        let (first, _second) = (admit().unwrap(), admit().unwrap());
        assert!(admit().is_none());
        drop(first);
        assert!(admit().is_some());
    }

    #[test]
    fn whoever_connects_to_a_pod_leaves_a_quarter_for_its_own_connections() {
        for (full, other) in [
            (Direction::Inbound, Direction::Outbound),
            (Direction::Outbound, Direction::Inbound),
        ] {
            let limit = limit_of(16);
            let mut flood: Vec<_> = std::iter::from_fn(|| limit.admit(full)).collect();
            assert_eq!(flood.len(), 12);
            let others: Vec<_> = std::iter::from_fn(|| limit.admit(other)).collect();
            assert_eq!(others.len(), 4);
            flood.pop();
            drop(others);
            assert!(limit.admit(full).is_some());
        }
    }

    #[tokio::test]
    async fn all_have_ended_when_the_last_place_is_given_back() {
        let limit = limit_of(8);
        limit.all_ended().await;
        let permit = limit.admit(Direction::Inbound);
        tokio::select! {
            biased;
            () = limit.all_ended() => panic!("one is open"),
            () = std::future::ready(()) => {}
        }
        drop(permit);
        limit.all_ended().await;
    }
}
