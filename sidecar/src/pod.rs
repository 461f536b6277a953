//! The one pod that the sidecar serves, seen from inside it.
//!
//! * [`served_pod`]: its proxy, from the first word of the control plane on
//! * [`sockets`]: the proxy's `Sockets`, in its own network namespace
//! * [`transparent`]: sockets at the addresses of clients
//! * [`node`]: the addresses from which the pod's node reaches it
//! * [`application`]: the sockets of the others in the pod
//! * [`addresses`]: the pod's own addresses

mod addresses;
mod application;
mod node;
mod served_pod;
mod sockets;
mod transparent;

pub(crate) use self::addresses::own_addresses;
pub(crate) use self::application::has_application_sockets;
pub(crate) use self::served_pod::{KnownAddresses, POD, ServedPod};
pub(crate) use self::transparent::try_transparent;
