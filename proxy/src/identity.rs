//! Who the proxy speaks as: the certificates of the pods that it serves.
//!
//! * [`CertificateStore`]: the live certificate of each identity, for the data path
//! * [`manager`]: obtains and renews them
//! * [`signing`], [`request`], [`issued`]: one certificate request, its parts

pub mod issued;
pub mod manager;
pub mod request;
pub mod signing;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use weft_model::SpiffeId;

pub use manager::{CertificateManager, IdentityInUse};

/// A certificate that was checked, with its key and what to verify peers against.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Chain (leaf first) and private key.
    pub key: Arc<CertifiedKey>,
    /// Whom it certifies.
    pub identity: SpiffeId,
    /// The roots that peers' certificates are verified against.
    pub roots: Arc<RootCertStore>,
    /// When it expires.
    pub not_after: SystemTime,
    /// Its serial number, hexadecimal octets with colons.
    pub serial: String,
}

type Slot = watch::Sender<Option<Arc<Certificate>>>;

/// The live certificate of each identity.
#[derive(Debug, Default)]
pub struct CertificateStore {
    slots: RwLock<HashMap<SpiffeId, Slot>>,
}

impl CertificateStore {
    /// The live certificate of an identity; None when there is none (yet).
    pub fn current(&self, identity: &SpiffeId) -> Option<Arc<Certificate>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(identity).and_then(|slot| slot.borrow().clone())
    }

    /// The live certificate of an identity and notice of every new one.
    pub fn subscribe(&self, identity: &SpiffeId) -> watch::Receiver<Option<Arc<Certificate>>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots
            .entry(identity.clone())
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe()
    }

    /// Makes a certificate the live one of its identity.
    pub fn publish(&self, certificate: Arc<Certificate>) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots
            .entry(certificate.identity.clone())
            .or_insert_with(|| watch::Sender::new(None));
        slot.send_replace(Some(certificate));
    }

    /// Forgets an identity that nobody uses any more.
    pub fn remove(&self, identity: &SpiffeId) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.remove(identity) {
            slot.send_replace(None);
        }
    }
}
