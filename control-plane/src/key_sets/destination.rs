//! The addresses that this process connects to for keys. Whoever may write a RequestAuthentication
//! names them; what only this process reaches is not for them.

use std::net::{IpAddr, Ipv6Addr};

use weft_model::address::canonical_ip;

/// The address of a cloud's metadata in IPv6, which is none of a link.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether an address is one of this machine's or link's, or of nobody.
pub(super) fn is_local(address: IpAddr) -> bool {
    match canonical_ip(address) {
        IpAddr::V4(address) => {
            // "This network" (RFC 1122 section 3.2.1.3) is this machine to Linux.
            let is_this = address.octets().first() == Some(&0);
            let is_own = address.is_loopback() || address.is_link_local() || is_this;
            is_own || address.is_broadcast() || address.is_multicast()
        }
        IpAddr::V6(address) => {
            let is_own = address.is_loopback() || address.is_unicast_link_local();
            let is_nobody = address.is_unspecified() || address.is_multicast();
            is_own || is_nobody || address == METADATA
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_or_link_reaches_is_local() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.8.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("169.254.169.254", true),
            ("fd00:ec2::254", true),
            ("fe80::1", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("::", true),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("ff02::1", true),
            ("10.0.0.1", false),
            ("192.168.0.1", false),
            ("fd00::1", false),
            ("1.1.1.1", false),
            ("2606:4700::1111", false),
        ] {
            assert_eq!(is_local(address.parse().unwrap()), expected, "{address}");
        }
    }
}
