//! Retry budgets: only a share of the requests may be retries, so that retries don't keep a
//! Service down that has too much to do already.

use std::time::{Duration, Instant};

use crate::traffic::window::SlidingWindow;

/// Retry budget of a TrafficPolicy (GEP-3388).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryBudget {
    /// Retries for the requests of the last interval, in percent of these.
    pub percent: u8,
    /// Length of the interval.
    pub interval: Duration,
    /// Number of retries a second that are always allowed.
    pub minimum_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            minimum_per_second: 10,
        }
    }
}

/// Window of the least rate of retries.
const SECOND: Duration = Duration::from_secs(1);

/// State of a retry budget. Its policy is given with each call, so that it may change
/// without what was counted being lost.
#[derive(Clone, Debug, Default)]
pub struct RetryBudgetState {
    /// Requests and retries of the last interval.
    interval: SlidingWindow,
    /// Retries of the last second, as the second count.
    second: SlidingWindow,
}

impl RetryBudgetState {
    /// Counts a request, without its retries.
    pub fn record_request(&mut self, policy: &RetryBudget, now: Instant) {
        self.interval.add([1, 0], policy.interval, now);
    }

    /// Counts one more retry, if the budget has one left: true when it may be made.
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
