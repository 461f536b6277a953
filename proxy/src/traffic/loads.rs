//! What each endpoint costs right now, for the choice between them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weft_model::balance::{Ewma, Load};

use crate::sync::lock;

/// Endpoints that are remembered before unused ones are dropped.
const REMEMBERED: usize = 4096;
/// What a failure counts as, at least: an endpoint that refuses at once isn't fast, and
/// must not attract what others would serve.
const FAILURE: Duration = Duration::from_secs(1);

/// Measurements of every endpoint in use.
#[derive(Debug, Default)]
pub(super) struct Loads(Mutex<HashMap<SocketAddr, Arc<EndpointLoad>>>);

/// Measurements of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointLoad {
    in_flight: AtomicU32,
    latency: Mutex<(Ewma, Instant)>,
}

/// A connection or request in flight to an endpoint; over when dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<EndpointLoad>);

impl Loads {
    /// The measurements of an endpoint.
    pub(super) fn of_endpoint(&self, endpoint: SocketAddr) -> Arc<EndpointLoad> {
        let mut loads = lock(&self.0);
        if loads.len() >= REMEMBERED {
            loads.retain(|_, load| Arc::strong_count(load) > 1);
        }
        Arc::clone(loads.entry(endpoint).or_default())
    }
}

impl Default for EndpointLoad {
    fn default() -> Self {
        let latency = Mutex::new((Ewma::default(), Instant::now()));
        Self {
            in_flight: AtomicU32::new(0),
            latency,
        }
    }
}

impl EndpointLoad {
    /// What is known now.
    pub(super) fn load(&self, now: Instant) -> Load {
        let (latency, at) = *lock(&self.latency);
        Load {
            latency: latency.faded(now.saturating_duration_since(at)),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }

    /// One more connection or request goes there.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// It took this long to connect or to answer, or to fail.
    pub(super) fn observe(&self, took: Duration, success: bool, now: Instant) {
        let sample = match success {
            true => took,
            false => took.max(FAILURE),
        };
        let mut latency = lock(&self.latency);
        let since_last = now.saturating_duration_since(latency.1);
        *latency = (latency.0.observe(sample, since_last), now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_busy_while_connections_last() {
        let (loads, now) = (Loads::default(), Instant::now());
        let endpoint = "10.0.0.1:80".parse().unwrap();
        let first = loads.of_endpoint(endpoint).begin();
        assert_eq!(loads.of_endpoint(endpoint).load(now).in_flight, 1);
        drop(first);
        assert_eq!(loads.of_endpoint(endpoint).load(now).in_flight, 0);
    }

    #[test]
    fn an_endpoint_that_refuses_at_once_is_not_a_fast_one() {
        let (loads, now) = (Loads::default(), Instant::now());
        let endpoint = loads.of_endpoint("10.0.0.1:80".parse().unwrap());
        endpoint.observe(Duration::from_micros(20), false, now);
        assert!(endpoint.load(now).latency.seconds() >= 1.0);
        endpoint.observe(
            Duration::from_millis(1),
            true,
            now + Duration::from_secs(90),
        );
        let later = endpoint.load(now + Duration::from_secs(90));
        assert!(later.latency.seconds() < 0.01);
    }
}
