//! Prometheus metrics, under the names that dashboards of this field already read,
//! plus `weft_*` for what is ours.
//!
//! * [`registry`]: all metrics of the process, and their text
//! * [`pod`]: the part that one pod counts in
//! * [`families`]: all of them; [`connections`], [`requests`], [`policies`] by theme
//! * [`labels`], [`key`]: the labels of a series, and what tells two of them apart
//! * [`shared_series`]: series live as long as a pod uses them

pub(crate) mod connections;
mod families;
mod key;
mod labels;
pub(crate) mod pod;
mod policies;
mod registry;
mod requests;
mod shared_series;

pub use registry::Metrics;
