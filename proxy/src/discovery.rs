//! What the proxy is told: the client of the control plane's discovery service.
//!
//! * [`client`]: the stream that never gives up
//! * [`resources`]: what one response does to what is known (pure)
//! * [`capture_reports`]: which pods are captured, for the control plane to know

mod capture_reports;
mod client;
mod resources;

pub use self::capture_reports::{CaptureReports, PodCaptureState};
pub use self::client::{DiscoveryOptions, DiscoveryStatus, run};
pub use self::resources::KnownResources;
