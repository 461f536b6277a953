//! What each endpoint costs right now, for the choice between them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weft_model::balance::{Ewma, Load};

/// Endpoints that are remembered before unused ones are dropped.
const REMEMBERED: usize = 4096;

/// Measurements of every endpoint in use.
#[derive(Debug, Default)]
pub(crate) struct Loads(Mutex<HashMap<SocketAddr, Arc<EndpointLoad>>>);

/// Measurements of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointLoad {
    in_flight: AtomicU32,
    latency: Mutex<(Ewma, Instant)>,
}

/// A connection in flight to an endpoint; over when dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<EndpointLoad>);

impl Loads {
    /// The measurements of an endpoint.
    pub(crate) fn of(&self, endpoint: SocketAddr) -> Arc<EndpointLoad> {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub(crate) fn load(&self) -> Load {
        let (latency, at) = *self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        Load {
            latency: latency.faded(at.elapsed()),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }

    /// One more connection goes there.
    pub(crate) fn start(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// It took this long to connect.
    pub(crate) fn observe(&self, sample: Duration) {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *latency = (latency.0.observe(sample, now - latency.1), now);
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
        let loads = Loads::default();
        let endpoint = "10.0.0.1:80".parse().unwrap();
        let first = loads.of(endpoint).start();
        assert_eq!(loads.of(endpoint).load().in_flight, 1);
        drop(first);
        assert_eq!(loads.of(endpoint).load().in_flight, 0);
    }
}
