//! What the owner of a guarded connection keeps of it, while the server has the stream.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::StatusCode;

use crate::ahead::ClientEnd;
use crate::refusal::Refusal;

/// The other end of a [`GuardedStream`](crate::GuardedStream): tells it of responses, and
/// says whether it refused a request.
#[derive(Clone, Debug, Default)]
pub struct GuardHandle {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Why the connection was refused.
    refusal: Option<Refusal>,
    /// Number of final responses so far.
    responses: u64,
    /// Status of the last one.
    last_status: StatusCode,
    /// Whoever waits for the response to a request for an upgrade.
    waiting: Option<Waker>,
    /// How the client's side has ended while a response was under way.
    client_end: Option<ClientEnd>,
    /// Whoever waits for that.
    waiting_for_end: Option<Waker>,
}

impl GuardHandle {
    /// Why the connection was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.lock().refusal
    }

    /// Waits until the client's side has ended while a response was under way. A client that
    /// ends between its requests just ends its connection.
    pub async fn client_ended(&self) -> ClientEnd {
        poll_fn(|context| {
            let mut state = self.lock();
            if let Some(end) = state.client_end {
                return Poll::Ready(end);
            }
            match &mut state.waiting_for_end {
                Some(waiting) => waiting.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// To be called once for each request, with the status of its final response, before
    /// the server gets it. Only then does the server read what follows a request for an
    /// upgrade. If the response grants it (101, or a success to CONNECT), that is of another
    /// protocol, and nothing is inspected any more.
    pub fn response_decided(&self, status: StatusCode) {
        let waiting = {
            let mut state = self.lock();
            state.responses += 1;
            state.last_status = status;
            state.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// The status of the final response to the last one of so many requests, if it is
    /// decided.
    pub(crate) fn last_status(&self, requests: u64) -> Option<StatusCode> {
        let state = self.lock();
        (state.responses >= requests).then_some(state.last_status)
    }

    /// The same, once it is decided.
    pub(crate) fn poll_last_status(
        &self,
        requests: u64,
        context: &mut Context<'_>,
    ) -> Poll<StatusCode> {
        let mut state = self.lock();
        if state.responses < requests {
            state.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(state.last_status)
    }

    /// Notes that the client's side has ended.
    pub(crate) fn end(&self, end: ClientEnd) {
        let waiting = {
            let mut state = self.lock();
            state.client_end = Some(end);
            state.waiting_for_end.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Notes why the connection is refused.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.lock().refusal.get_or_insert(refusal);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
