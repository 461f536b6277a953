//! What the control plane writes into the cluster: which pods are captured, and what
//! people have to know about their objects.

mod accepted;
mod capture;
mod lease;
mod notice;
mod routes;
mod traffic_policy;

pub(crate) use accepted::{keep_external_service_status, keep_mesh_config_status};
pub(crate) use capture::{CaptureWriter, PodCapture};
pub(crate) use lease::{Lease, while_held};
pub(crate) use notice::{Notice, Notices};
pub(crate) use routes::{RouteNews, keep_route_status};
pub(crate) use traffic_policy::keep_traffic_policy_status;

/// Who the API server says has written.
pub(crate) const FIELD_MANAGER: &str = "weft-control-plane";
