//! Circuit breaking: requests are refused at once while too many of them fail.
//!
//! A breaker is closed, then open for a while because too many requests failed, then half
//! open, when a few are let through to see.

use std::time::{Duration, Instant};

use crate::traffic::window::{SlidingWindow, exceeds_failure_ratio};

/// Circuit breaker of a TrafficPolicy: when requests are refused because too many failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitBreaker {
    /// Number of failures in a row that opens it; not looked at when `None`.
    pub consecutive_failures: Option<u32>,
    /// Share of failures in the window that opens it, 0 to 1; not looked at when `None`.
    pub failure_ratio: Option<f64>,
    /// Number of requests that a window needs before its ratio counts.
    pub minimum_requests: u32,
    /// Length of the window of the ratio.
    pub window: Duration,
    /// Time that it stays open for.
    pub open_for: Duration,
    /// Number of requests that are let through when half open; as many successes close it.
    pub probes: u32,
}

/// State of one circuit breaker. Its policy is given with each call, so that it may change
/// without what was seen being lost.
#[derive(Clone, Debug, Default)]
pub struct CircuitBreakerState {
    status: Status,
    /// Rises with each change of state: what was admitted before one says nothing about
    /// the state after it.
    generation: u64,
    consecutive_failures: u32,
    /// Successes and failures.
    window: SlidingWindow,
}

#[derive(Clone, Copy, Debug, Default)]
enum Status {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        admitted: u32,
        succeeded: u32,
    },
}

/// State of a circuit breaker, as metrics show it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CircuitState {
    /// Everything is let through.
    Closed,
    /// Nothing is let through.
    Open,
    /// A few requests are let through.
    HalfOpen,
}

/// One request that was let through, to be given back with its outcome by
/// [`CircuitBreakerState::record_outcome`], or without one by
/// [`CircuitBreakerState::abandon`].
#[derive(Debug)]
#[must_use = "a probe that is never given back keeps the breaker half open"]
pub struct CircuitPermit {
    generation: u64,
}

/// Refusal of a request that wasn't let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the circuit breaker is open: too many requests failed")]
pub struct CircuitOpen {
    /// Time that the breaker stays open for; as long as the probes take when `None`.
    pub remaining: Option<Duration>,
}

impl CircuitBreakerState {
    /// Lets one request through.
    ///
    /// # Errors
    /// When it is open, or half open and the probes are on their way.
    pub fn admit(
        &mut self,
        policy: &CircuitBreaker,
        now: Instant,
    ) -> Result<CircuitPermit, CircuitOpen> {
        if let Status::Open { until } = self.status {
            let remaining = until.saturating_duration_since(now);
            if !remaining.is_zero() {
                let remaining = Some(remaining);
                return Err(CircuitOpen { remaining });
            }
            self.enter(Status::HalfOpen {
                admitted: 0,
                succeeded: 0,
            });
        }
        if let Status::HalfOpen { admitted, .. } = &mut self.status {
            if *admitted >= policy.probes.max(1) {
                return Err(CircuitOpen { remaining: None });
            }
            *admitted += 1;
        }
        let generation = self.generation;
        Ok(CircuitPermit { generation })
    }

    /// Counts the outcome of a request that was let through. The new state, when that
    /// changes it.
    pub fn record_outcome(
        &mut self,
        policy: &CircuitBreaker,
        permit: CircuitPermit,
        success: bool,
        now: Instant,
    ) -> Option<CircuitState> {
        if permit.generation != self.generation {
            return None;
        }
        let until = now + policy.open_for;
        let next = match (&mut self.status, success) {
            (Status::Open { .. }, _) => return None,
            (Status::HalfOpen { .. }, false) => Status::Open { until },
            (Status::HalfOpen { succeeded, .. }, true) => {
                *succeeded += 1;
                if *succeeded < policy.probes.max(1) {
                    return None;
                }
                Status::Closed
            }
            (Status::Closed, _) => {
                if !self.trips(policy, success, now) {
                    return None;
                }
                Status::Open { until }
            }
        };
        self.enter(next);
        Some(self.state())
    }

    /// Takes back a request that was let through and ended with no outcome: its client
    /// left.
    pub fn abandon(&mut self, permit: CircuitPermit) {
        if let Status::HalfOpen { admitted, .. } = &mut self.status
            && permit.generation == self.generation
        {
            *admitted = admitted.saturating_sub(1);
        }
    }

    /// The state, without looking at the time: open until somebody asks again.
    pub fn state(&self) -> CircuitState {
        match self.status {
            Status::Closed => CircuitState::Closed,
            Status::Open { .. } => CircuitState::Open,
            Status::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Counts an outcome; true when there were too many failures now.
    fn trips(&mut self, policy: &CircuitBreaker, success: bool, now: Instant) -> bool {
        self.consecutive_failures = match success {
            true => 0,
            false => self.consecutive_failures.saturating_add(1),
        };
        let counts = [u32::from(success), u32::from(!success)];
        self.window.add(counts, policy.window, now);
        let in_a_row = policy.consecutive_failures;
        if !success && in_a_row.is_some_and(|most| self.consecutive_failures >= most.max(1)) {
            return true;
        }
        let sums = self.window.sums(policy.window, now);
        let ratio = policy.failure_ratio;
        !success
            && ratio
                .is_some_and(|ratio| exceeds_failure_ratio(sums, ratio, policy.minimum_requests))
    }

    fn enter(&mut self, status: Status) {
        self.status = status;
        self.generation += 1;
        self.consecutive_failures = 0;
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN_FOR: Duration = Duration::from_secs(5);

    fn policy() -> CircuitBreaker {
        CircuitBreaker {
            consecutive_failures: Some(3),
            failure_ratio: None,
            minimum_requests: 10,
            window: Duration::from_secs(10),
            open_for: OPEN_FOR,
            probes: 2,
        }
    }

    fn pass(
        breaker: &mut CircuitBreakerState,
        policy: &CircuitBreaker,
        success: bool,
        now: Instant,
    ) {
        let permit = breaker.admit(policy, now).unwrap();
        breaker.record_outcome(policy, permit, success, now);
    }

    fn opened(now: Instant) -> CircuitBreakerState {
        let mut breaker = CircuitBreakerState::default();
        (0..3).for_each(|_| pass(&mut breaker, &policy(), false, now));
        assert_eq!(breaker.state(), CircuitState::Open);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_others_do_not() {
        let (mut breaker, now) = (CircuitBreakerState::default(), Instant::now());
        for success in [false, false, true, false, false] {
            pass(&mut breaker, &policy(), success, now);
        }
        assert_eq!(breaker.state(), CircuitState::Closed);
        let open = opened(now).admit(&policy(), now).unwrap_err();
        assert_eq!(open.remaining, Some(OPEN_FOR));
    }

    #[test]
    fn a_share_of_failures_opens_it_once_there_were_enough_requests() {
        let (mut breaker, now) = (CircuitBreakerState::default(), Instant::now());
        let policy = CircuitBreaker {
            consecutive_failures: None,
            failure_ratio: Some(0.5),
            ..policy()
        };
        for success in [false, true].into_iter().cycle().take(8) {
            pass(&mut breaker, &policy, success, now);
        }
        pass(&mut breaker, &policy, true, now);
        assert_eq!(breaker.state(), CircuitState::Closed);
        pass(&mut breaker, &policy, false, now);
        assert_eq!(breaker.state(), CircuitState::Open, "5 of 10 failed");
    }

    #[test]
    fn it_closes_after_as_many_successes_as_it_let_through() {
        let began = Instant::now();
        let (mut breaker, later) = (opened(began), began + OPEN_FOR);
        let first = breaker.admit(&policy(), later).unwrap();
        let second = breaker.admit(&policy(), later).unwrap();
        let third = breaker.admit(&policy(), later).unwrap_err();
        assert_eq!(third.remaining, None);
        assert_eq!(breaker.record_outcome(&policy(), first, true, later), None);
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        let closed = breaker.record_outcome(&policy(), second, true, later);
        assert_eq!(closed, Some(CircuitState::Closed));
        assert!(breaker.admit(&policy(), later).is_ok());
    }

    #[test]
    fn one_failing_probe_opens_it_again() {
        let began = Instant::now();
        let (mut breaker, later) = (opened(began), began + OPEN_FOR);
        let probe = breaker.admit(&policy(), later).unwrap();
        assert_eq!(
            breaker.record_outcome(&policy(), probe, false, later),
            Some(CircuitState::Open)
        );
        assert!(breaker.admit(&policy(), later).is_err());
    }

    #[test]
    fn a_probe_whose_client_left_makes_room_for_another() {
        let began = Instant::now();
        let (mut breaker, later) = (opened(began), began + OPEN_FOR);
        let first = breaker.admit(&policy(), later).unwrap();
        let _second = breaker.admit(&policy(), later).unwrap();
        assert!(breaker.admit(&policy(), later).is_err());
        breaker.abandon(first);
        assert!(breaker.admit(&policy(), later).is_ok());
    }

    #[test]
    fn what_was_let_through_before_it_opened_says_nothing_of_it_now() {
        let (mut breaker, began) = (CircuitBreakerState::default(), Instant::now());
        let early = breaker.admit(&policy(), began).unwrap();
        (0..3).for_each(|_| pass(&mut breaker, &policy(), false, began));
        let later = began + OPEN_FOR;
        let _probe = breaker.admit(&policy(), later).unwrap();
        assert_eq!(breaker.record_outcome(&policy(), early, false, later), None);
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
    }

    proptest! {
        /// Whatever happens, it lets nothing through while open and no more than the
        /// probes while half open, and it doesn't stay so when all is well again.
        #[test]
        fn it_holds_and_recovers(
            steps in prop::collection::vec((0u64..3_000, 0u8..4), 0..200),
        ) {
            let (mut breaker, policy) = (CircuitBreakerState::default(), policy());
            let mut now = Instant::now();
            let (mut permits, mut probes) = (Vec::new(), 0u32);
            for (wait, step) in steps {
                now += Duration::from_millis(wait);
                match (step, permits.pop()) {
                    (0, Some(permit)) => {
                        breaker.abandon(permit);
                        probes = probes.saturating_sub(1);
                    }
                    (1 | 2, Some(permit)) => {
                        let changed = breaker.record_outcome(&policy, permit, step == 1, now);
                        if changed.is_some() {
                            (probes, permits) = (0, Vec::new());
                        }
                    }
                    (_, permit) => {
                        permits.extend(permit);
                        let before = breaker.state();
                        if let Ok(permit) = breaker.admit(&policy, now) {
                            if before == CircuitState::Open {
                                (probes, permits) = (0, Vec::new());
                            }
                            permits.push(permit);
                            probes += u32::from(breaker.state() == CircuitState::HalfOpen);
                        }
                    }
                }
                prop_assert!(probes <= policy.probes);
            }
            permits.drain(..).for_each(|permit| breaker.abandon(permit));
            now += OPEN_FOR;
            for _ in 0..policy.probes {
                let permit = breaker.admit(&policy, now);
                prop_assert!(permit.is_ok() || breaker.state() == CircuitState::HalfOpen);
                if let Ok(permit) = permit {
                    breaker.record_outcome(&policy, permit, true, now);
                }
            }
        }
    }
}
