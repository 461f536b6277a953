//! The control plane as the proxy reaches it.
//!
//! * [`connection`]: the shared, authenticated connection
//! * [`backoff`]: how long to wait before the next attempt

mod backoff;
mod connection;

pub use self::backoff::Backoff;
pub(crate) use self::connection::explain;
pub use self::connection::{ControlPlane, ControlPlaneError, ControlPlaneOptions};
