//! The circuit breaker: closed, then open for a while because too many requests failed,
//! then half open, when a few are let through to see.

use std::time::{Duration, Instant};

use crate::traffic::CircuitBreaker;
use crate::window::SlidingWindow;

/// One circuit breaker. Its policy is given with each call, so that it may change
/// without what was seen being lost.
#[derive(Clone, Debug, Default)]
pub struct CircuitBreakerState {
    state: Status,
    /// Rises with each change of state: what was admitted before one says nothing about
    /// the state after it.
    generation: u64,
    consecutive: u32,
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

/// What a circuit breaker does now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CircuitState {
    /// It lets everything through.
    Closed,
    /// It lets nothing through.
    Open,
    /// It lets a few through.
    HalfOpen,
}

/// One request that was let through. Its outcome is told by [`Breaker::record`], or that
/// there is none by [`Breaker::abandon`].
#[derive(Debug)]
#[must_use = "a probe that is never told of keeps the breaker half open"]
pub struct CircuitPermit {
    generation: u64,
}

/// A request that wasn't let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the circuit breaker is open: too many requests failed")]
pub struct CircuitOpen {
    /// How long it stays open; as long as the probes take when `None`.
    pub remaining: Option<Duration>,
}

impl CircuitBreakerState {
    /// Lets one request through, or not.
    ///
    /// # Errors
    /// When it is open, or half open and the probes are on their way.
    pub fn admit(
        &mut self,
        policy: &CircuitBreaker,
        now: Instant,
    ) -> Result<CircuitPermit, CircuitOpen> {
        if let Status::Open { until } = self.state {
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
        if let Status::HalfOpen { admitted, .. } = &mut self.state {
            if *admitted >= policy.probes.max(1) {
                return Err(CircuitOpen { remaining: None });
            }
            *admitted += 1;
        }
        let generation = self.generation;
        Ok(CircuitPermit { generation })
    }

    /// A request that was let through ended. The new phase, when that changes it.
    pub fn record_outcome(
        &mut self,
        policy: &CircuitBreaker,
        ticket: CircuitPermit,
        success: bool,
        now: Instant,
    ) -> Option<CircuitState> {
        if ticket.generation != self.generation {
            return None;
        }
        let until = now + policy.open_for;
        let next = match (&mut self.state, success) {
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

    /// A request that was let through ended with no outcome: its client left.
    pub fn abandon(&mut self, ticket: CircuitPermit) {
        if let Status::HalfOpen { admitted, .. } = &mut self.state
            && ticket.generation == self.generation
        {
            *admitted = admitted.saturating_sub(1);
        }
    }

    /// What it does, without looking at the time: open until somebody asks again.
    pub fn state(&self) -> CircuitState {
        match self.state {
            Status::Closed => CircuitState::Closed,
            Status::Open { .. } => CircuitState::Open,
            Status::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Counts an outcome; whether there were too many failures now.
    fn trips(&mut self, policy: &CircuitBreaker, success: bool, now: Instant) -> bool {
        self.consecutive = match success {
            true => 0,
            false => self.consecutive.saturating_add(1),
        };
        let counts = [u32::from(success), u32::from(!success)];
        self.window.add(counts, policy.window, now);
        let in_a_row = policy.consecutive_failures;
        if !success && in_a_row.is_some_and(|most| self.consecutive >= most.max(1)) {
            return true;
        }
        let sums = self.window.sums(policy.window, now);
        let ratio = policy.failure_ratio;
        !success
            && ratio
                .is_some_and(|ratio| exceeds_failure_ratio(sums, ratio, policy.minimum_requests))
    }

    fn enter(&mut self, state: Status) {
        self.state = state;
        self.generation += 1;
        self.consecutive = 0;
        self.window.clear();
    }
}

/// Whether the share of failures among enough requests is too great.
pub(crate) fn exceeds_failure_ratio([good, bad]: [u32; 2], ratio: f64, minimum: u32) -> bool {
    let all = good.saturating_add(bad);
    all > 0 && all >= minimum && f64::from(bad) >= ratio * f64::from(all)
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
        let ticket = breaker.admit(policy, now).unwrap();
        breaker.record_outcome(policy, ticket, success, now);
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
            let (mut tickets, mut probes) = (Vec::new(), 0u32);
            for (wait, step) in steps {
                now += Duration::from_millis(wait);
                match (step, tickets.pop()) {
                    (0, Some(ticket)) => {
                        breaker.abandon(ticket);
                        probes = probes.saturating_sub(1);
                    }
                    (1 | 2, Some(ticket)) => {
                        let changed = breaker.record_outcome(&policy, ticket, step == 1, now);
                        if changed.is_some() {
                            (probes, tickets) = (0, Vec::new());
                        }
                    }
                    (_, ticket) => {
                        tickets.extend(ticket);
                        let before = breaker.state();
                        if let Ok(ticket) = breaker.admit(&policy, now) {
                            if before == CircuitState::Open {
                                (probes, tickets) = (0, Vec::new());
                            }
                            tickets.push(ticket);
                            probes += u32::from(breaker.state() == CircuitState::HalfOpen);
                        }
                    }
                }
                prop_assert!(probes <= policy.probes);
            }
            tickets.drain(..).for_each(|ticket| breaker.abandon(ticket));
            now += OPEN_FOR;
            for _ in 0..policy.probes {
                let ticket = breaker.admit(&policy, now);
                prop_assert!(ticket.is_ok() || breaker.state() == CircuitState::HalfOpen);
                if let Ok(ticket) = ticket {
                    breaker.record_outcome(&policy, ticket, true, now);
                }
            }
        }
    }
}
