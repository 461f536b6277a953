//! How many of the requests may be retries (GEP-3388), so that retries don't keep a
//! Service down that has too much to do already.

use std::time::{Duration, Instant};

use crate::traffic::RetryBudget;
use crate::window::SlidingWindow;

/// What the least rate of retries is measured over.
const SECOND: Duration = Duration::from_secs(1);

/// Requests and retries of the last interval.
#[derive(Clone, Debug, Default)]
pub struct RetryBudgetState {
    /// Requests, and retries of them.
    interval: SlidingWindow,
    /// Nothing, and retries.
    second: SlidingWindow,
}

impl RetryBudgetState {
    /// A request begins; its retries aren't told here.
    pub fn record_request(&mut self, policy: &RetryBudget, now: Instant) {
        self.interval.add([1, 0], policy.interval, now);
    }

    /// Whether there may be one more retry now; it is counted when there may.
    pub fn try_retry(&mut self, policy: &RetryBudget, now: Instant) -> bool {
        let [requests, retries] = self.interval.sums(policy.interval, now);
        let [_, of_second] = self.second.sums(SECOND, now);
        let share = u64::from(requests) * u64::from(policy.percent);
        let within_share = (u64::from(retries) + 1) * 100 <= share;
        let allowed = within_share || of_second < policy.minimum_per_second;
        if allowed {
            self.interval.add([0, 1], policy.interval, now);
            self.second.add([0, 1], SECOND, now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(percent: u8, minimum_per_second: u32) -> RetryBudget {
        RetryBudget {
            percent,
            interval: Duration::from_secs(10),
            minimum_per_second,
        }
    }

    fn retries(budget: &mut RetryBudgetState, policy: &RetryBudget, now: Instant) -> usize {
        (0..1000).filter(|_| budget.try_retry(policy, now)).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_retries() {
        let (mut budget, now) = (RetryBudgetState::default(), Instant::now());
        let policy = policy(20, 0);
        assert!(!budget.try_retry(&policy, now), "nothing was asked yet");
        (0..100).for_each(|_| budget.record_request(&policy, now));
        assert_eq!(retries(&mut budget, &policy, now), 20);
    }

    #[test]
    fn some_retries_a_second_are_always_allowed() {
        let (mut budget, now) = (RetryBudgetState::default(), Instant::now());
        let policy = policy(0, 10);
        assert_eq!(retries(&mut budget, &policy, now), 10);
        let later = now + Duration::from_secs(1);
        assert_eq!(retries(&mut budget, &policy, later), 10);
    }

    #[test]
    fn requests_of_long_ago_allow_nothing() {
        let (mut budget, now) = (RetryBudgetState::default(), Instant::now());
        let policy = policy(100, 0);
        (0..100).for_each(|_| budget.record_request(&policy, now));
        assert!(!budget.try_retry(&policy, now + Duration::from_secs(11)));
    }

    proptest! {
        #[test]
        fn at_one_moment_the_greater_of_share_and_least_rate_is_allowed(
            requests in 0u32..300, percent in 0u8..=100, least in 0u32..30,
        ) {
            let (mut budget, now) = (RetryBudgetState::default(), Instant::now());
            let policy = policy(percent, least);
            (0..requests).for_each(|_| budget.record_request(&policy, now));
            let share = requests * u32::from(percent) / 100;
            prop_assert_eq!(retries(&mut budget, &policy, now), share.max(least) as usize);
        }
    }
}
