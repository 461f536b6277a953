//! Outlier detection: an endpoint that fails where others don't is ejected, so that it gets no
//! requests for a while, for longer each time.

use std::time::{Duration, Instant};

use crate::traffic::window::{SlidingWindow, exceeds_failure_ratio};

/// Outlier detection of a TrafficPolicy: when an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierDetection {
    /// Number of failures in a row that ejects it; not looked at when `None`.
    pub consecutive_failures: Option<u32>,
    /// Share of failures in the window that ejects it, 0 to 1; not looked at when `None`.
    pub failure_ratio: Option<f64>,
    /// Number of requests that a window needs before its ratio counts.
    pub minimum_requests: u32,
    /// Length of the window of the ratio.
    pub window: Duration,
    /// Length of the first ejection; each further one is longer by as much.
    pub base_ejection: Duration,
    /// Length of the longest ejection.
    pub max_ejection: Duration,
    /// Share of the endpoints that may be ejected at once, in percent.
    pub max_ejected_percent: u8,
}

/// Outlier state of one endpoint. Its policy is given with each call, so that it may
/// change without what was seen being lost.
#[derive(Clone, Debug, Default)]
pub struct OutlierState {
    consecutive_failures: u32,
    /// Successes and failures.
    window: SlidingWindow,
    /// End of its last ejection.
    ejected_until: Option<Instant>,
    /// Number of its ejections that count for the length of the next one.
    counted_ejections: u32,
}

impl OutlierState {
    /// Counts the outcome of a request; true when the endpoint should be ejected for it.
    /// What comes in late from an endpoint that is ejected doesn't count.
    pub fn record_outcome(
        &mut self,
        policy: &OutlierDetection,
        success: bool,
        now: Instant,
    ) -> bool {
        if self.is_ejected(now) {
            return false;
        }
        self.consecutive_failures = match success {
            true => 0,
            false => self.consecutive_failures.saturating_add(1),
        };
        let counts = [u32::from(success), u32::from(!success)];
        self.window.add(counts, policy.window, now);
        let sums = self.window.sums(policy.window, now);
        let in_a_row = policy.consecutive_failures;
        let in_a_row = in_a_row.is_some_and(|most| self.consecutive_failures >= most.max(1));
        let ratio = policy.failure_ratio;
        let ratio =
            ratio.is_some_and(|ratio| exceeds_failure_ratio(sums, ratio, policy.minimum_requests));
        !success && (in_a_row || ratio)
    }

    /// Ejects it and gives the length of the ejection. Each `base_ejection` that it was well
    /// for since the last one takes one ejection back from those that count.
    pub fn eject(&mut self, policy: &OutlierDetection, now: Instant) -> Duration {
        let well = self
            .ejected_until
            .map(|until| now.saturating_duration_since(until));
        let base = policy.base_ejection.as_nanos().max(1);
        let forgiven = well.unwrap_or_default().as_nanos() / base;
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.counted_ejections = self
            .counted_ejections
            .saturating_sub(forgiven)
            .saturating_add(1);
        let length = policy.base_ejection.saturating_mul(self.counted_ejections);
        let length = length.min(policy.max_ejection.max(policy.base_ejection));
        self.ejected_until = Some(now + length);
        self.consecutive_failures = 0;
        self.window.clear();
        length
    }

    /// Whether it is ejected.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    /// The moment that it came back at; `None` when it never was ejected or still is.
    pub fn returned_at(&self, now: Instant) -> Option<Instant> {
        self.ejected_until.filter(|until| *until <= now)
    }
}

/// Whether one more endpoint may be ejected when `ejected` of `all` are already. One may
/// always be where the policy lets any, as a share of few endpoints is often less than one;
/// a Service's only endpoint never is, as there is no other.
pub fn may_eject(policy: &OutlierDetection, ejected: usize, all: usize) -> bool {
    if all <= 1 || policy.max_ejected_percent == 0 {
        return false;
    }
    ejected == 0 || (ejected + 1) * 100 <= all * usize::from(policy.max_ejected_percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Duration = Duration::from_secs(30);

    fn policy() -> OutlierDetection {
        OutlierDetection {
            consecutive_failures: Some(3),
            failure_ratio: None,
            minimum_requests: 5,
            window: Duration::from_secs(10),
            base_ejection: BASE,
            max_ejection: BASE * 3,
            max_ejected_percent: 50,
        }
    }

    #[test]
    fn failures_in_a_row_eject_it_until_its_time_is_over() {
        let (mut outlier, now) = (OutlierState::default(), Instant::now());
        let outcomes = [false, false, true, false, false, false];
        let deserved = outcomes.map(|success| outlier.record_outcome(&policy(), success, now));
        assert_eq!(deserved, [false, false, false, false, false, true]);
        assert_eq!(outlier.eject(&policy(), now), BASE);
        assert!(outlier.is_ejected(now) && outlier.returned_at(now).is_none());
        assert!(
            !outlier.record_outcome(&policy(), false, now),
            "it is already"
        );
        let later = now + BASE;
        assert!(!outlier.is_ejected(later));
        assert_eq!(outlier.returned_at(later), Some(later));
    }

    #[test]
    fn a_share_of_failures_ejects_it_once_there_were_enough_requests() {
        let (mut outlier, now) = (OutlierState::default(), Instant::now());
        let policy = OutlierDetection {
            consecutive_failures: None,
            failure_ratio: Some(0.6),
            ..policy()
        };
        let outcomes = [true, false, false, true, false];
        let deserved = outcomes.map(|success| outlier.record_outcome(&policy, success, now));
        assert_eq!(deserved, [false, false, false, false, true]);
    }

    #[test]
    fn each_ejection_is_longer_up_to_the_most_and_good_times_are_counted_in_its_favour() {
        let (mut outlier, mut now) = (OutlierState::default(), Instant::now());
        for times in [1, 2, 3, 3] {
            let length = outlier.eject(&policy(), now);
            assert_eq!(length, BASE * times);
            now += length;
        }
        now += BASE * 3;
        assert_eq!(outlier.eject(&policy(), now), BASE * 2, "4 less 3, and 1");
        now += BASE * 100;
        assert_eq!(outlier.eject(&policy(), now), BASE);
    }

    #[test]
    fn no_more_than_the_share_and_never_the_only_one() {
        assert!(may_eject(&policy(), 1, 4));
        assert!(!may_eject(&policy(), 2, 4));
        assert!(!may_eject(&policy(), 0, 1));
        let few = OutlierDetection {
            max_ejected_percent: 10,
            ..policy()
        };
        assert!(may_eject(&few, 0, 2), "one may be always");
        assert!(!may_eject(&few, 1, 2));
        let none = OutlierDetection {
            max_ejected_percent: 0,
            ..policy()
        };
        assert!(!may_eject(&none, 0, 9));
    }

    proptest! {
        #[test]
        fn an_ejection_is_never_shorter_than_the_base_nor_longer_than_the_most(
            waits in prop::collection::vec(0u64..200, 1..40),
        ) {
            let (mut outlier, mut now) = (OutlierState::default(), Instant::now());
            for wait in waits {
                let length = outlier.eject(&policy(), now);
                prop_assert!(length >= BASE && length <= BASE * 3);
                now += length + Duration::from_secs(wait);
            }
        }

        #[test]
        fn the_share_holds_from_two_on(all in 2usize..200, percent in 1u8..=100) {
            let policy = OutlierDetection { max_ejected_percent: percent, ..policy() };
            let ejected = (0..all).take_while(|ejected| may_eject(&policy, *ejected, all)).count();
            let most = (all * usize::from(percent) / 100).max(1);
            prop_assert_eq!(ejected, most);
        }
    }
}
