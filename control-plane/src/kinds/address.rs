//! Addresses that are nobody's own.

use std::net::IpAddr;

/// Whether an address means somebody else on every host, or nobody: an object that names it would
/// lead clients to what listens beside them.
pub(super) fn is_special(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    is_link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast()
}
