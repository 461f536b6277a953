//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential back-off with jitter: each wait is drawn from the upper half of a
/// span that doubles up to a bound, so that many nodes don't return at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and grows to at most `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let span = self.next.min(self.longest);
        self.next = span.saturating_mul(2).min(self.longest);
        span.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Call after a success: the next failure waits briefly again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_bounds(attempts in 1usize..80) {
            let (first, longest) = (Duration::from_millis(100), Duration::from_secs(15));
            let mut backoff = Backoff::new(first, longest);
            for attempt in 0..attempts {
                let span = first.saturating_mul(1 << attempt.min(20)).min(longest);
                let delay = backoff.next_delay();
                prop_assert!(delay <= span && delay >= span / 2, "{attempt}: {delay:?}");
            }
            backoff.reset();
            prop_assert!(backoff.next_delay() <= first);
        }
    }
}
