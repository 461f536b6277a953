//! The addresses of the pod's own interfaces.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;

/// Addresses at which others reach the pod, IPv4 first.
///
/// # Errors
/// When the kernel doesn't tell.
pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let mut addresses: Vec<_> = addresses.filter(is_reached_by_others).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses)
}

fn is_reached_by_others(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => Ipv6Addr::is_unicast_link_local(v6),
    };
    !address.is_loopback() && !is_link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_are_none_of_the_pods() {
        for address in ["127.0.0.1", "::1", "169.254.1.1", "fe80::1"] {
            assert!(
                !is_reached_by_others(&address.parse().unwrap()),
                "{address}"
            );
        }
        for address in ["10.0.0.1", "fd00::1"] {
            assert!(is_reached_by_others(&address.parse().unwrap()), "{address}");
        }
        let own = own_addresses().unwrap();
        assert!(own.iter().all(is_reached_by_others), "{own:?}");
    }
}
