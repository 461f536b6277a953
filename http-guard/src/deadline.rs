//! The time that a head may take, from its first byte to its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// The deadline of the head that has begun, if one has.
#[derive(Debug)]
pub struct HeadDeadline {
    within: Option<Duration>,
    /// Number of the head, and its end.
    running: Option<(u64, Pin<Box<Sleep>>)>,
}

impl HeadDeadline {
    /// For heads that may take so long; for ever where it is `None`.
    pub fn new(within: Option<Duration>) -> Self {
        Self {
            within,
            running: None,
        }
    }

    /// Ready when the head with that number has taken too long. None has begun where it is
    /// `None`: a client may be silent between its requests.
    pub fn poll_over(&mut self, head: Option<u64>, context: &mut Context<'_>) -> Poll<()> {
        let Some((number, within)) = head.zip(self.within) else {
            self.running = None;
            return Poll::Pending;
        };
        if self.running.as_ref().is_none_or(|(of, _)| *of != number) {
            self.running = Some((number, Box::pin(sleep(within))));
        }
        match &mut self.running {
            Some((_, sleep)) => sleep.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}
