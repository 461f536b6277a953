//! The node agent: takes the opted-in pods of one node into the mesh.
//!
//! It follows the control plane ([`weft_proxy::discovery`]), and for each pod of its node
//! that opted in it obtains a certificate, starts a proxy on sockets inside the pod's network
//! namespace, and has the kernel hand it the pod's connections. From the top down:
//!
//! * [`run`]: the program; what it starts in which order
//! * `admin`: the pages for operators, kubelet and Prometheus
//! * `pods`: the reconciler, a task for each pod with its states and steps
//! * [`pod_sockets`]: the sockets that the proxy opens inside a pod
//! * [`earlier_connections`]: those that a pod has from before its capture
//! * [`draining`]: agents that have handed over, and whose connections are still open
//! * [`redirect`]: the kernel programs, the only user-space eBPF code
//! * [`namespaces`]: the pods' network namespaces
//!
//! A library so that the kernel tests can use its parts as the agent does.

mod admin;
mod blocking;
pub mod draining;
pub mod earlier_connections;
pub mod namespaces;
pub mod pod_sockets;
mod pods;
pub mod redirect;
pub mod run;
