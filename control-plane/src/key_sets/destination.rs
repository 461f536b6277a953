//! The addresses that this process connects to for keys. Whoever may write a RequestAuthentication
//! names them; what only this process reaches is not for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_model::address::canonical_ip;

/// The addresses of clouds' metadata and of what they offer a machine, which are none of a link: of
/// Alibaba, Azure and Oracle,
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// of AWS and Google.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether an address is one of this machine's or link's, or of nobody.
pub(super) fn is_local(address: IpAddr) -> bool {
    match canonical_ip(address) {
        IpAddr::V4(address) => {
            // "This network" (RFC 1122 section 3.2.1.3) is this machine to Linux.
            let is_this = address.octets().first() == Some(&0);
            let is_own = address.is_loopback() || address.is_link_local() || is_this;
            let is_nobody = address.is_broadcast() || address.is_multicast();
            is_own || is_nobody || METADATA_V4.contains(&address)
        }
        IpAddr::V6(address) => {
            let is_own = address.is_loopback() || address.is_unicast_link_local();
            let is_nobody = address.is_unspecified() || address.is_multicast();
            let is_embedded = || embedded(address).is_some_and(|inner| is_local(inner.into()));
            is_own || is_nobody || METADATA_V6.contains(&address) || is_embedded()
        }
    }
}

/// The address of IPv4 that a gateway leads to: of NAT64 (RFC 6052 section 2.1) or 6to4 (RFC 3056
/// section 2).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let address = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    let ([a, b], [c, d]) = (address.0.to_be_bytes(), address.1.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
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
            ("fd20:ce::254", true),
            ("100.100.100.200", true),
            ("168.63.129.16", true),
            ("192.0.0.192", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("2002:7f00:1::", true),
            ("64:ff9b::808:808", false),
            ("2002:808:808::1", false),
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
