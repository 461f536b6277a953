//! How many connections one pod may have through the proxy, both directions together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limit of one pod's connections.
#[derive(Debug)]
pub(crate) struct AdmissionLimit {
    permits: Arc<Semaphore>,
    limit: u32,
}

/// One connection's permit under its pod's limit; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl AdmissionLimit {
    /// A limit of that many connections, none of them open.
    pub(crate) fn new(limit: u32) -> Self {
        let limit = limit.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        let permits = Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(usize::MAX)));
        Self { permits, limit }
    }

    /// A permit for one more connection; `None` when the pod has as many as it may.
    pub(crate) fn admit(&self) -> Option<Admission> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.ok().map(Admission)
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

    #[tokio::test]
    async fn over_the_limit_nobody_is_admitted_until_a_permit_is_given_back() {
        let limit = AdmissionLimit::new(2);
        let (first, _second) = (limit.admit().unwrap(), limit.admit().unwrap());
        assert!(limit.admit().is_none());
        drop(first);
        assert!(limit.admit().is_some());
    }

    #[tokio::test]
    async fn all_have_ended_when_the_last_place_is_given_back() {
        let limit = AdmissionLimit::new(8);
        limit.all_ended().await;
        let permit = limit.admit();
        tokio::select! {
            biased;
            () = limit.all_ended() => panic!("one is open"),
            () = std::future::ready(()) => {}
        }
        drop(permit);
        limit.all_ended().await;
    }
}
