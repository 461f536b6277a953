//! A real Kubernetes on this machine, or its API server alone.

mod api_server;
mod binaries;
mod certificates;
mod kubeconfig;
mod kubectl;

pub use api_server::{ApiServer, ApiServerOptions, ISSUER};
pub use binaries::Binaries;
pub use certificates::{Authority, Credential};
pub use kubeconfig::{Endpoint, Identity};
pub use kubectl::Kubectl;
