//! The live certificates, for the data path.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use tokio::sync::watch;
use weft_model::SpiffeId;

use super::certificate::Certificate;
use crate::sync::{read, write};

type Slot = watch::Sender<Option<Arc<Certificate>>>;

/// The live certificate of each identity.
#[derive(Debug, Default)]
pub struct CertificateStore {
    slots: RwLock<HashMap<SpiffeId, Slot>>,
}

impl CertificateStore {
    /// The live certificate of an identity; None when there is none (yet).
    pub fn current(&self, identity: &SpiffeId) -> Option<Arc<Certificate>> {
        let slots = read(&self.slots);
        slots.get(identity).and_then(|slot| slot.borrow().clone())
    }

    /// The live certificate of an identity and notice of every new one.
    pub fn subscribe(&self, identity: &SpiffeId) -> watch::Receiver<Option<Arc<Certificate>>> {
        let mut slots = write(&self.slots);
        slots
            .entry(identity.clone())
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe()
    }

    /// Makes a certificate the live one of its identity.
    pub fn publish(&self, certificate: Arc<Certificate>) {
        let mut slots = write(&self.slots);
        let slot = slots
            .entry(certificate.identity.clone())
            .or_insert_with(|| watch::Sender::new(None));
        slot.send_replace(Some(certificate));
    }

    /// Forgets an identity that nobody uses any more.
    pub fn remove(&self, identity: &SpiffeId) {
        let mut slots = write(&self.slots);
        if let Some(slot) = slots.remove(identity) {
            slot.send_replace(None);
        }
    }
}
