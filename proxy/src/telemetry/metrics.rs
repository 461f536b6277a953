//! Prometheus metrics, under the names that dashboards of this field already read,
//! plus `weft_*` for what is ours.
//!
//! * [`registry`]: all metrics of the process, and their text
//! * [`pod`]: the part that one pod counts in
//! * [`families`]: all of them; [`connections`], [`requests`], [`policies`],
//!   [`verdicts`] by theme
//! * [`labels`], [`key`]: the labels of a series, and what tells two of them apart
//! * [`values`]: values of labels that come from the wire
//! * [`shared_series`]: series live as long as a pod uses them
//! * [`budget`]: how many of them a pod may have

mod budget;
pub(crate) mod connections;
mod families;
mod key;
mod labels;
pub(crate) mod pod;
mod policies;
mod registry;
mod requests;
mod shared_series;
mod values;
pub(crate) mod verdicts;

pub use registry::{Metrics, SERIES_PER_NODE, SERIES_PER_POD};

#[cfg(test)]
mod tests;
