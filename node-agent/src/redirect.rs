//! Handing the connections of pods to the proxy: the kernel programs, loaded once for
//! a node, and the tables that tell them about each pod. The only code of the agent that
//! speaks to eBPF.
//!
//! * [`Redirect`] (`node`) loads the programs, tries each for real (`load`, `probe`), and
//!   attaches those that all pods share to the cgroup hierarchy (`links`, `cgroup`)
//! * [`PodRedirect`] (`pod`) is one pod's part: its entries in the `tables`, and the link
//!   that holds the inbound program to its namespace
//! * [`SocketMaps`] is asked by the proxy about single sockets
//! * `pins` keeps all that alive while no agent runs
//!
//! Without a pin directory everything ends with the process. With one, what is attached
//! stays when the agent dies, and pods in strict mode are refused until a new agent
//! takes them over.

mod blocks;
mod capabilities;
mod cgroup;
mod counters;
mod error;
mod kernel;
mod links;
mod listeners;
mod load;
mod node;
mod object;
mod options;
mod pins;
mod pod;
mod probe;
mod programs;
mod socket_maps;
mod tables;

pub use self::capabilities::Capabilities;
pub use self::cgroup::{CgroupError, enter_node_cgroup_namespace};
pub use self::counters::Counter;
pub use self::error::RedirectError;
pub use self::listeners::{ListenerPair, PodListeners};
pub use self::node::Redirect;
pub use self::options::{RedirectOptions, UnknownPods};
pub use self::pins::PinsError;
pub use self::pod::{PodRedirect, PodRedirectConfig};
pub use self::socket_maps::SocketMaps;
pub use self::tables::{RecordCounts, TableSizes};
