//! What the proxy is told: the client of the control plane's discovery service.
//!
//! * [`client`]: the stream that never gives up
//! * [`resources`]: what one response does to what is known (pure)
//! * [`capture_reports`]: which pods are captured, for the control plane to know
//! * [`node_trial`]: whether the node can capture any

mod capture_reports;
mod client;
mod node_trial;
mod resources;

pub use self::capture_reports::{CaptureReports, PodCaptureState};
pub use self::client::{DiscoveryOptions, DiscoveryStatus, run};
pub use self::node_trial::NodeTrial;
pub use self::resources::KnownResources;
