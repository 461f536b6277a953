//! Keeps a live certificate for every identity in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use weft_model::SpiffeId;

use super::certificate::Certificate;
use super::signing::sign;
use super::store::CertificateStore;
use crate::control_plane::{Backoff, ControlPlane};

/// Shortest and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// Longest sleep at a time: the wall clock may be set, and renewal goes by it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Renewal happens between half of a certificate's life and this share of it, which
/// leaves time for an absent control plane to come back.
const LATEST_RENEWAL: f64 = 0.8;

/// Obtains certificates, publishes them to the [`CertificateStore`] and renews them,
/// for as long as somebody uses the identity.
#[derive(Debug)]
pub struct CertificateManager {
    control_plane: ControlPlane,
    store: Arc<CertificateStore>,
    /// Where the renewal of each identity runs.
    runtime: tokio::runtime::Handle,
    in_use: Mutex<HashMap<SpiffeId, InUse>>,
}

#[derive(Debug)]
struct InUse {
    users: usize,
    last_error: watch::Receiver<Option<String>>,
    renewal: AbortHandle,
}

/// Keeps an identity's certificate alive until it is dropped.
#[derive(Debug)]
pub struct IdentityInUse {
    manager: Arc<CertificateManager>,
    identity: SpiffeId,
    last_error: watch::Receiver<Option<String>>,
}

impl CertificateManager {
    /// A manager whose renewals run on `runtime`.
    pub fn new(
        control_plane: ControlPlane,
        store: Arc<CertificateStore>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            control_plane,
            store,
            runtime,
            in_use: Mutex::default(),
        })
    }

    /// Starts to use an identity; the first user makes its certificate be obtained,
    /// the last one to go ends its renewal.
    pub fn use_identity(self: &Arc<Self>, identity: &SpiffeId) -> IdentityInUse {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = in_use.entry(identity.clone()).or_insert_with(|| {
            let (sender, last_error) = watch::channel(None);
            let renewal = keep_certified(
                self.control_plane.clone(),
                Arc::clone(&self.store),
                identity.clone(),
                sender,
            );
            InUse {
                users: 0,
                last_error,
                renewal: self.runtime.spawn(renewal).abort_handle(),
            }
        });
        entry.users += 1;
        IdentityInUse {
            manager: Arc::clone(self),
            identity: identity.clone(),
            last_error: entry.last_error.clone(),
        }
    }

    /// When the certificate of each identity in use expires; None where there is
    /// none yet.
    pub fn expiries(&self) -> Vec<(SpiffeId, Option<SystemTime>)> {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let expiry = |identity| {
            self.store
                .current(identity)
                .map(|current| current.not_after)
        };
        in_use
            .keys()
            .map(|identity| (identity.clone(), expiry(identity)))
            .collect()
    }

    fn stop_using(&self, identity: &SpiffeId) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = in_use.get_mut(identity) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0 {
            entry.renewal.abort();
            in_use.remove(identity);
            self.store.remove(identity);
        }
    }
}

impl Drop for IdentityInUse {
    fn drop(&mut self) {
        self.manager.stop_using(&self.identity);
    }
}

impl IdentityInUse {
    /// The live certificate, as soon as there is one.
    pub async fn certificate(&self) -> Arc<Certificate> {
        let mut certificate = self.manager.store.subscribe(&self.identity);
        loop {
            if let Some(certificate) = certificate.borrow_and_update().clone() {
                return certificate;
            }
            if certificate.changed().await.is_err() {
                // Only when the store itself is gone, and with it everything else.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why the last attempt to obtain or renew it failed.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.borrow().clone()
    }
}

/// Obtains a certificate and renews it, for ever.
async fn keep_certified(
    control_plane: ControlPlane,
    store: Arc<CertificateStore>,
    identity: SpiffeId,
    last_error: watch::Sender<Option<String>>,
) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        match sign(&control_plane, &identity).await {
            Ok(certificate) => {
                backoff.reset();
                last_error.send_replace(None);
                let renewal =
                    renewal_time(SystemTime::now(), certificate.not_after, fastrand::f64());
                tracing::info!(
                    target: "identity",
                    %identity,
                    serial = certificate.serial,
                    life_s = remaining(SystemTime::now(), certificate.not_after).as_secs(),
                    "certificate obtained",
                );
                store.publish(Arc::new(certificate));
                sleep_until(renewal).await;
            }
            Err(error) => {
                let delay = backoff.next_delay();
                let expires_s = store
                    .current(&identity)
                    .map(|current| remaining(SystemTime::now(), current.not_after).as_secs());
                tracing::warn!(
                    target: "identity",
                    %identity,
                    reason = %error,
                    current_expires_s = expires_s,
                    retry_ms = delay.as_millis() as u64,
                    "no certificate",
                );
                last_error.send_replace(Some(error.to_string()));
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// When to renew a certificate that was obtained at `now`: `random` (0 to 1) chooses
/// a point in the second half of its life.
fn renewal_time(now: SystemTime, not_after: SystemTime, random: f64) -> SystemTime {
    let share = 0.5 + (LATEST_RENEWAL - 0.5) * random.clamp(0.0, 1.0);
    now + remaining(now, not_after).mul_f64(share)
}

fn remaining(now: SystemTime, not_after: SystemTime) -> Duration {
    not_after.duration_since(now).unwrap_or_default()
}

async fn sleep_until(deadline: SystemTime) {
    loop {
        let left = remaining(SystemTime::now(), deadline);
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests;
