//! Local rate limits: token buckets, counted as a virtual schedule (the "generic cell rate
//! algorithm" of ATM's traffic management).

use std::time::{Duration, Instant};

/// Local rate limit of a TrafficPolicy: the size and the rate of a token bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalRateLimit {
    /// Number of requests in each interval.
    pub requests: u32,
    /// Length of the interval.
    pub interval: Duration,
    /// Number of requests that may come at once.
    pub burst: u32,
}

impl LocalRateLimit {
    /// The limit by which the receiving side counts again what a client's own proxy has counted by
    /// this one: half as much again. Retries and mirrored copies count there, and what a client has
    /// sent evenly may arrive at once.
    #[must_use]
    pub fn with_room(&self) -> Self {
        let more = |count: u32| count.saturating_add(count.div_ceil(2));
        Self {
            requests: more(self.requests),
            interval: self.interval,
            burst: more(self.burst).saturating_add(1),
        }
    }
}

/// A bucket of tokens. The limit is given with each call, so that it may change without
/// anybody getting a full bucket anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    /// The moment that the bucket will be full again at; it is full when `None`.
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// The moment that it will be full again at; `None` where it is full at that time, and so not
    /// different from a new one.
    pub fn full_at(&self, now: Instant) -> Option<Instant> {
        self.full_at.filter(|at| *at > now)
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When there is none; with the time until there is one.
    pub fn try_acquire(&mut self, limit: &LocalRateLimit, now: Instant) -> Result<(), Duration> {
        let Some(period) = limit.interval.checked_div(limit.requests) else {
            return Err(limit.interval);
        };
        let capacity = period.saturating_mul(limit.burst.max(1));
        // Missing tokens, as the time that it takes to fill them in. Under an earlier
        // limit more may have been missing than this one's bucket holds.
        let missing = self.full_at.map(|at| at.saturating_duration_since(now));
        let missing = missing.unwrap_or_default().min(capacity);
        let taken = missing.saturating_add(period);
        match taken.checked_sub(capacity) {
            None | Some(Duration::ZERO) => {
                self.full_at = now.checked_add(taken);
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(requests: u32, seconds: u64, burst: u32) -> LocalRateLimit {
        LocalRateLimit {
            requests,
            interval: Duration::from_secs(seconds),
            burst,
        }
    }

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_at_the_rate() {
        let (mut bucket, now) = (TokenBucket::default(), Instant::now());
        let limit = limit(2, 1, 3);
        for _ in 0..3 {
            assert_eq!(bucket.try_acquire(&limit, now), Ok(()));
        }
        assert_eq!(
            bucket.try_acquire(&limit, now),
            Err(Duration::from_millis(500))
        );
        let later = now + Duration::from_millis(500);
        assert_eq!(bucket.try_acquire(&limit, later), Ok(()));
        assert!(bucket.try_acquire(&limit, later).is_err());
    }

    #[test]
    fn a_bucket_is_full_again_when_all_of_it_has_come_back() {
        let (mut bucket, now) = (TokenBucket::default(), Instant::now());
        assert_eq!(bucket.full_at(now), None);
        bucket.try_acquire(&limit(2, 1, 3), now).unwrap();
        let full = now + Duration::from_millis(500);
        assert_eq!(bucket.full_at(now), Some(full));
        assert_eq!(bucket.full_at(full), None);
    }

    #[test]
    fn a_limit_of_none_lets_none_through() {
        let limit = limit(0, 1, 5);
        assert!(
            TokenBucket::default()
                .try_acquire(&limit, Instant::now())
                .is_err()
        );
    }

    #[test]
    fn a_new_limit_holds_at_once_and_gives_no_burst_anew() {
        let (mut bucket, now) = (TokenBucket::default(), Instant::now());
        let hourly = limit(1, 3600, 1);
        assert_eq!(bucket.try_acquire(&hourly, now), Ok(()));
        let faster = limit(10, 1, 10);
        let wait = bucket.try_acquire(&faster, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100), "not an hour");
    }

    #[test]
    fn the_receiving_side_has_half_as_much_again() {
        let room = limit(5, 1, 1).with_room();
        assert_eq!((room.requests, room.burst), (8, 3));
        let most = limit(u32::MAX, 1, u32::MAX).with_room();
        assert_eq!(most.burst, u32::MAX);
    }

    proptest! {
        /// Though some requests take longer than others, by as much as there is between two.
        #[test]
        fn what_a_clients_proxy_lets_through_passes_at_the_receiving_side(
            (requests, burst) in (1u32..50, 1u32..20),
            waits in prop::collection::vec((0u64..400, 0u32..=100), 1..80),
        ) {
            let (mut own, mut receiving) = (TokenBucket::default(), TokenBucket::default());
            let limit = limit(requests, 1, burst);
            let between = limit.interval / requests;
            let (mut now, mut arrivals) = (Instant::now(), Vec::new());
            for (wait, late) in waits {
                now += Duration::from_millis(wait);
                if own.try_acquire(&limit, now).is_ok() {
                    arrivals.push(now + between * late / 100);
                }
            }
            arrivals.sort();
            for at in arrivals {
                prop_assert_eq!(receiving.try_acquire(&limit.with_room(), at), Ok(()));
            }
        }

        /// In no stretch of time more than the burst and what the rate gives; and all of
        /// that when it is asked for.
        #[test]
        fn the_rate_is_held_over_every_stretch(
            (requests, burst) in (1u32..50, 1u32..20),
            waits in prop::collection::vec(0u64..400, 1..80),
        ) {
            let (mut bucket, began) = (TokenBucket::default(), Instant::now());
            let limit = limit(requests, 1, burst);
            let (mut at, mut taken) = (0, Vec::new());
            for wait in waits {
                at += wait;
                if bucket.try_acquire(&limit, began + Duration::from_millis(at)).is_ok() {
                    taken.push(at);
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let stretch = (to - from) as f64 / 1000.0;
                    let most = f64::from(burst) + stretch * f64::from(requests) + 1e-3;
                    prop_assert!(((j - i + 1) as f64) <= most);
                }
            }
            let full = began + Duration::from_millis(at) + Duration::from_secs(burst.into());
            for _ in 0..burst {
                prop_assert!(bucket.try_acquire(&limit, full).is_ok());
            }
        }
    }
}
