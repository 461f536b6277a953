//! Load of an endpoint: exponentially weighted latency, peak-sensitive as in Finagle, times
//! the work in flight.

use std::time::Duration;

/// Time after which an old measurement counts for about a third.
const DECAY: Duration = Duration::from_secs(10);
/// Latency that an endpoint is taken to have before it was measured: low enough to be
/// tried soon, high enough that it isn't flooded before its first answer.
const UNKNOWN: Duration = Duration::from_millis(1);

/// Exponentially weighted moving average of an endpoint's latency, in seconds.
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

    /// The average after some time without a measurement, lower the longer it was. An
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

/// Load of one endpoint when a choice is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Moving average of its latency.
    pub latency: Ewma,
    /// Number of connections or requests that it is serving for this node now.
    pub in_flight: u32,
}

impl Load {
    /// Cost of one more request: the expected wait behind what is already in flight. Below a
    /// millisecond endpoints are equally good: which of them is nearer must not decide
    /// who gets all the work.
    pub fn cost(&self) -> f64 {
        let latency = self.latency.seconds().max(UNKNOWN.as_secs_f64());
        latency * f64::from(self.in_flight + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
