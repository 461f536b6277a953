//! What the owner of a guarded connection keeps of it, while the server has the stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use http::StatusCode;

use crate::ahead::ClientEnd;
use crate::refusal::Refusal;

/// The other end of a [`GuardedStream`](crate::GuardedStream): tells it of responses, and
/// says whether it refused a request.
#[derive(Clone, Debug, Default)]
pub struct GuardHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    unserved: AtomicUsize,
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
    /// The body of the last request comes though no response of 100 was sent.
    has_unasked_body: bool,
    /// Nobody was told of it yet.
    is_unasked_body_news: bool,
    /// Whoever waits for that.
    waiting_for_body: Option<Waker>,
    /// Numbers of requests and their targets, of those that the server reads otherwise.
    original_targets: VecDeque<(u64, Box<[u8]>)>,
    /// Interim responses that are to be written before the final one.
    interim: BytesMut,
    /// Number of final responses before them.
    interim_behind: u64,
    /// Whoever writes them.
    writer: Option<Waker>,
}

impl GuardHandle {
    /// Why the connection was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.lock().refusal
    }

    /// Bytes that were read and that no request is served of yet: of a head that isn't complete,
    /// or behind one that is.
    #[must_use]
    pub fn unserved_bytes(&self) -> usize {
        self.shared.unserved.load(Ordering::Relaxed)
    }

    /// The target of a request as it came, where the server reads some of its bytes
    /// percent-encoded: the first request has number 1. To be asked once for each request, in
    /// their order.
    #[must_use]
    pub fn original_target(&self, request: u64) -> Option<Box<[u8]>> {
        let mut state = self.lock();
        loop {
            let targets = &mut state.original_targets;
            let (number, target) = targets.pop_front_if(|(number, _)| *number <= request)?;
            if number == request {
                return Some(target);
            }
        }
    }

    /// Notes the targets of requests that the server reads otherwise.
    pub(crate) fn add_original_targets(&self, targets: VecDeque<(u64, Box<[u8]>)>) {
        self.lock().original_targets.extend(targets);
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

    /// Waits until the client sends a body without a response of 100, which it said to expect.
    /// A server that waits for that response itself has to go on then.
    pub async fn body_came_unasked(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if std::mem::take(&mut state.is_unasked_body_news) {
                return Poll::Ready(());
            }
            match &mut state.waiting_for_body {
                Some(waiting) => waiting.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether that is so of the last request that expects such a response.
    #[must_use]
    pub fn has_unasked_body(&self) -> bool {
        self.lock().has_unasked_body
    }

    /// Has an interim response (RFC 9110 section 15.2), given as it is on the wire, written
    /// before the response that is under way; it is void once that has begun.
    pub fn send_interim(&self, response: &[u8]) {
        let writer = {
            let mut state = self.lock();
            state.interim.extend_from_slice(response);
            state.interim_behind = state.responses;
            state.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// The interim responses to write now: before the final one is decided, or just before it
    /// is written (`is_response`). Whoever writes is woken by others.
    pub(crate) fn take_interim(&self, context: &Context<'_>, is_response: bool) -> BytesMut {
        let mut state = self.lock();
        match &mut state.writer {
            Some(writer) => writer.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        if state.interim.is_empty() {
            return BytesMut::new();
        }
        let last = state.interim_behind + u64::from(is_response);
        let (interim, is_due) = (std::mem::take(&mut state.interim), state.responses <= last);
        if is_due { interim } else { BytesMut::new() }
    }

    /// Notes that a body has come unasked, or that a request has begun of which none has.
    pub(crate) fn set_unasked_body(&self, has_come: bool) {
        let waiting = {
            let mut state = self.lock();
            state.has_unasked_body = has_come;
            state.is_unasked_body_news = has_come;
            state.waiting_for_body.take_if(|_| has_come)
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
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

    /// Notes how many bytes were read of which no request is served yet.
    pub(crate) fn set_unserved(&self, bytes: usize) {
        self.shared.unserved.store(bytes, Ordering::Relaxed);
    }

    /// Notes why the connection is refused.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.lock().refusal.get_or_insert(refusal);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
