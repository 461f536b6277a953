//! What the proxy is told: the client of the control plane's discovery service.
//!
//! * [`control_plane`]: the shared, authenticated connection
//! * [`held`]: what one response does to what is held (pure)
//! * [`captures`]: which pods are captured, for the control plane to know
//! * [`remote`]: the stream that ties them together and never gives up

pub mod backoff;
pub mod captures;
pub mod control_plane;
pub mod held;
pub mod remote;

#[cfg(test)]
pub(crate) mod test_server;
