//! Pages for operators, kubelet and Prometheus, over HTTP/1.1, and what else the programs have
//! in common: log, signals, the limits of their container.
//!
//! A process has three places for them. All pages are on loopback, for the operator. Those
//! that tell nothing about traffic or configuration (health, readiness, metrics) are on an
//! address that the rest of the cluster reaches, on a thread of their own: whoever asks
//! there takes no time from anything else. Kubelet's probes have a listener to themselves.
//!
//! * [`pages`]: what is shown, by path
//! * [`server`]: listeners, and a connection's one request
//! * [`clients`]: how many connections there are, and which of them makes room
//! * [`deadline`]: a stream whose reader must go on reading
//! * [`open_files`]: how many files the process may have open
//! * [`duration`]: times on command lines
//! * [`text`]: long text that is sent while it is written
//! * [`log`], [`signals`]: the log on standard error, and being told to stop
//! * [`memory`]: what the container may have of it
//! * [`process`]: what the process uses, as metrics

mod clients;
mod deadline;
mod duration;
pub mod log;
pub mod memory;
mod open_files;
mod pages;
mod process;
mod readiness;
mod server;
pub mod signals;
mod text;

pub use clients::Limits;
pub use duration::{TimeLimit, duration, time_limit};
pub use open_files::raise_open_files;
pub use pages::{Answer, Pages};
pub use process::ProcessMetrics;
pub use readiness::Readiness;
pub use server::{Endpoint, serve, serve_apart, serve_apart_until};
