//! A request's body that waits until its server asks for it (RFC 9110 section 10.1.1).

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::frame::BodyError;
use crate::sync::lock;

/// Keeps a request's body with its client until the server asks for it, or the client sends it
/// unasked.
#[derive(Clone, Debug)]
pub(crate) struct BodyGate(Arc<Mutex<Option<oneshot::Sender<()>>>>);

/// Ends a body that still waits for its server when it is dropped.
#[derive(Debug)]
pub(crate) struct GateHolder(BodyGate);

/// A body that nobody asked for.
#[derive(Debug, thiserror::Error)]
#[error("the server has not asked for the request's body")]
struct Unwanted;

/// The side of the body: it goes on once its gate is open.
#[derive(Debug)]
pub(crate) struct Gate(Option<oneshot::Receiver<()>>);

impl Gate {
    /// Ready when the gate is open, or will never be.
    pub(super) fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Some(receiver) = &mut self.0 {
            let opened = ready!(Pin::new(receiver).poll(context));
            opened.map_err(|_| Unwanted)?;
            self.0 = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl BodyGate {
    /// A gate that is closed, and the side of the body.
    pub(crate) fn closed() -> (Self, Gate) {
        let (sender, receiver) = oneshot::channel();
        let gate = Self(Arc::new(Mutex::new(Some(sender))));
        (gate, Gate(Some(receiver)))
    }

    /// The body waits no longer.
    pub(crate) fn open(&self) {
        if let Some(sender) = lock(&self.0).take() {
            // A request that is over needs none.
            let _ = sender.send(());
        }
    }
}

impl GateHolder {
    /// The one holder of a gate.
    pub(crate) fn new(gate: BodyGate) -> Self {
        Self(gate)
    }

    /// Whether the body still waits.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0.0).is_some()
    }
}

impl Drop for GateHolder {
    fn drop(&mut self) {
        lock(&self.0.0).take();
    }
}
