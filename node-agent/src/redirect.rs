//! Handing the connections of pods to the proxy: the kernel programs, loaded once for
//! a node, and the tables that tell them about each pod. The only code of the agent that
//! speaks to eBPF.
//!
//! * [`Redirect`] (`node`) loads the programs, tries each for real (`load`, `probe`), and
//!   attaches those that all pods share to the cgroup hierarchy (`links`, `cgroup`)
//! * [`PodRedirect`] (`pod`) is one pod's part: its entries in the `tables`, and the link
//!   that holds the inbound program to its namespace; it is refused first, where it may not be
//!   open for a moment, and then redirected
//! * `listening` keeps where applications listen, so that connections to where none does are
//!   refused before the proxy takes them
//! * `ingress` has the kernel refuse what arrives at pods that nobody has told of; `unknown` refuses
//!   it at those that were found, and lets pass those that are known
//! * [`SocketMaps`] is asked by the proxy about single sockets
//! * `kubelets` finds the process that strict pods take their probes from; `node_ports` keeps these
//!   ports open to it while no proxy runs
//! * [`HeldConnections`] (`held`, `packets`) end the wait of applications in `connect()`
//! * [`CaptureProbe`] (`capture_probe`) tries a pod's capture out
//! * `records` counts the connections that are just being opened
//! * `pins` keeps all that alive while no agent runs
//!
//! Without a pin directory everything ends with the process. With one, what is attached
//! stays when the agent dies, and pods in strict mode are refused until a new agent
//! takes them over.

mod blocks;
mod capabilities;
mod capture_probe;
mod cgroup;
mod counters;
mod entries;
mod error;
mod held;
mod ingress;
mod kernel;
mod kubelets;
mod links;
mod listeners;
mod listening;
mod load;
mod node;
mod node_ports;
mod object;
mod options;
mod packets;
mod pins;
mod pod;
mod probe;
mod programs;
mod records;
mod socket_maps;
mod table_sizes;
mod tables;
mod unknown;

pub use self::capabilities::Capabilities;
pub use self::capture_probe::{CaptureProbe, ProbedDirection};
pub use self::cgroup::{CgroupError, enter_node_cgroup_namespace};
pub use self::counters::Counter;
pub use self::error::RedirectError;
pub use self::held::{HeldAttempt, HeldAttempts, HeldConnections};
pub use self::listeners::{ListenerPair, PodListeners};
pub use self::node::Redirect;
pub use self::options::{RedirectOptions, UnknownPods};
pub use self::packets::Unreachable;
pub use self::pins::PinsError;
pub use self::pod::{EnforcementConfig, PodAddresses, PodRedirect, PodRedirectConfig};
pub use self::socket_maps::SocketMaps;
pub use self::table_sizes::{RecordCounts, TableSizes};
