//! The parts of the node agent that reach into the kernel: network namespaces, the
//! eBPF programs, and the sockets that the proxy opens inside a pod. A library so that
//! the kernel tests can use them as the agent does.

pub mod netns;
pub mod pod_sockets;
pub mod processes;
pub mod redirect;
