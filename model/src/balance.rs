//! Which endpoint a connection goes to: the better of two at random, by
//! exponentially weighted latency and work in flight ("power of two choices",
//! Mitzenmacher 2001; peak-sensitive EWMA as in Finagle).

use std::time::Duration;

/// Time after which an old measurement counts for about a third.
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint that was never measured is taken to cost: low enough to be
/// tried soon, high enough that it isn't flooded before its first answer.
const UNKNOWN: Duration = Duration::from_millis(1);

/// A moving average of how long an endpoint takes, in seconds.
///
/// It rises to a slow answer at once and falls back slowly, so that an endpoint
/// that stalls is avoided after one request, not after many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ewma(Option<f64>);

impl Ewma {
    /// The average after one more measurement, made `since_last` after the one before.
    #[must_use]
    pub fn observe(self, sample: Duration, since_last: Duration) -> Self {
        let sample = sample.as_secs_f64();
        let Some(average) = self.0 else {
            return Self(Some(sample));
        };
        if sample > average {
            return Self(Some(sample));
        }
        let weight = (-since_last.as_secs_f64() / DECAY.as_secs_f64()).exp();
        Self(Some(average * weight + sample * (1.0 - weight)))
    }

    /// What the average is still worth after some time without a measurement. An
    /// endpoint that was slow once is tried again by and by, not avoided for ever.
    #[must_use]
    pub fn faded(self, since_last: Duration) -> Self {
        let weight = (-since_last.as_secs_f64() / DECAY.as_secs_f64()).exp();
        Self(self.0.map(|average| average * weight))
    }

    /// The average in seconds; a small constant before the first measurement.
    pub fn seconds(self) -> f64 {
        self.0.unwrap_or(UNKNOWN.as_secs_f64())
    }
}

/// What is known of one endpoint when a choice is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// How long it takes.
    pub latency: Ewma,
    /// Connections or requests that it is serving for us now.
    pub in_flight: u32,
}

impl Load {
    /// The expected wait behind what is already in flight: what is compared. Below a
    /// millisecond endpoints are equally good: which of them is nearer must not decide
    /// who gets all the work.
    pub fn cost(&self) -> f64 {
        let latency = self.latency.seconds().max(UNKNOWN.as_secs_f64());
        latency * f64::from(self.in_flight + 1)
    }
}

/// Index of the endpoint to use among `count`, `None` when there are none.
///
/// `load` tells what is known of an endpoint; `random` gives a number below its
/// argument. Two different endpoints are drawn and the cheaper one is taken.
pub fn choose(
    count: usize,
    load: impl Fn(usize) -> Load,
    mut random: impl FnMut(usize) -> usize,
) -> Option<usize> {
    match count {
        0 => None,
        1 => Some(0),
        _ => {
            let first = random(count);
            let other = random(count - 1);
            let second = if other >= first { other + 1 } else { other };
            Some(if load(second).cost() < load(first).cost() {
                second
            } else {
                first
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stalling_endpoint_is_avoided_at_once_and_forgiven_slowly() {
        let fast = Ewma::default().observe(Duration::from_millis(1), Duration::ZERO);
        let stalled = fast.observe(Duration::from_secs(1), Duration::from_millis(10));
        assert!(stalled.seconds() >= 1.0);
        let soon = stalled.observe(Duration::from_millis(1), Duration::from_secs(1));
        assert!(soon.seconds() > 0.5);
        let later = soon.observe(Duration::from_millis(1), Duration::from_secs(60));
        assert!(later.seconds() < 0.01);
    }

    #[test]
    fn an_endpoint_that_was_slow_once_is_tried_again() {
        let slow = Ewma::default().observe(Duration::from_millis(100), Duration::ZERO);
        let load = |latency| Load {
            latency,
            in_flight: 0,
        };
        let fast = load(Ewma::default().observe(Duration::from_micros(50), Duration::ZERO));
        assert!(load(slow.faded(Duration::from_secs(5))).cost() > fast.cost());
        let equal = load(slow.faded(Duration::from_secs(60))).cost();
        assert!((equal - fast.cost()).abs() < f64::EPSILON);
    }

    #[test]
    fn fixed_latencies_below_a_millisecond_share_the_work() {
        let latencies = [50, 400]
            .map(|micros| Ewma::default().observe(Duration::from_micros(micros), Duration::ZERO));
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = [0; 2];
        for _ in 0..1000 {
            let load = |i: usize| Load {
                latency: latencies[i],
                in_flight: 0,
            };
            counts[choose(2, load, |n| random.usize(0..n)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|n| (450..=550).contains(n)), "{counts:?}");
    }

    #[test]
    fn work_spreads_evenly_over_equal_endpoints() {
        let mut in_flight = [0u32; 5];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let load = |i: usize| Load {
                latency: Ewma::default(),
                in_flight: in_flight[i],
            };
            let chosen = choose(5, load, |n| random.usize(0..n)).unwrap();
            in_flight[chosen] += 1;
        }
        // Two choices keep the spread at log log n; one choice would miss by tens.
        assert!(
            in_flight.iter().all(|n| (195..=205).contains(n)),
            "{in_flight:?}"
        );
    }

    proptest! {
        #[test]
        fn the_choice_exists_and_is_never_the_most_expensive_of_its_pair(
            loads in prop::collection::vec((0.0f64..1.0, 0u32..100), 0..20),
            seed: u64,
        ) {
            let loads: Vec<Load> = loads
                .into_iter()
                .map(|(s, in_flight)| Load {
                    latency: Ewma::default().observe(Duration::from_secs_f64(s), Duration::ZERO),
                    in_flight,
                })
                .collect();
            let mut random = fastrand::Rng::with_seed(seed);
            let mut drawn = Vec::new();
            let chosen = choose(loads.len(), |i| loads[i], |n| { let r = random.usize(0..n); drawn.push(r); r });
            match chosen {
                None => prop_assert!(loads.is_empty()),
                Some(index) => {
                    prop_assert!(index < loads.len());
                    if loads.len() > 1 {
                        let second = if drawn[1] >= drawn[0] { drawn[1] + 1 } else { drawn[1] };
                        let cheapest = loads[drawn[0]].cost().min(loads[second].cost());
                        prop_assert_eq!(loads[index].cost(), cheapest);
                    }
                }
            }
        }
    }
}
