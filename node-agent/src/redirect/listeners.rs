//! The proxy's listeners, as the tables refer to them.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// One of the proxy's inbound listeners, in a pod's namespace.
#[derive(Clone, Copy, Debug)]
pub struct ListenerPair<'a> {
    /// Bound to an IPv4 address.
    pub v4: BorrowedFd<'a>,
    /// Bound to an IPv6 address; absent where the namespace has no IPv6.
    pub v6: Option<BorrowedFd<'a>>,
}

/// The proxy's inbound listeners in a pod's namespace. The kernel forgets a listener by
/// itself when it is closed, so none of its descriptors may be kept by others.
#[derive(Clone, Copy, Debug)]
pub struct PodListeners<'a> {
    /// Takes everything that isn't HBONE.
    pub plaintext: ListenerPair<'a>,
    /// Takes connections to the HBONE port.
    pub hbone: ListenerPair<'a>,
}

impl PodListeners<'_> {
    /// Plaintext and HBONE listener for an address.
    pub(super) fn descriptors_for(&self, address: IpAddr) -> (Option<RawFd>, Option<RawFd>) {
        let choose = |pair: &ListenerPair<'_>| match address.is_ipv4() {
            true => Some(pair.v4.as_raw_fd()),
            false => pair.v6.map(|fd| fd.as_raw_fd()),
        };
        (choose(&self.plaintext), choose(&self.hbone))
    }
}
