//! The pod's node, as far as it is seen from inside the pod: its default routes lead there. With
//! most network plugins the gateway is also the address from which the node's processes connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Gateways of the default routes.
pub(crate) fn gateways() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut gateways = gateways_v4(&read("/proc/net/route"));
    gateways.extend(gateways_v6(&read("/proc/net/ipv6_route")));
    gateways
}

/// Of the kernel's list: interface, destination, gateway, both in its own byte order.
fn gateways_v4(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let address = Ipv4Addr::from(gateway.to_ne_bytes());
        let is_default = destination == "00000000" && !address.is_unspecified();
        is_default.then_some(IpAddr::V4(address))
    };
    routes.lines().filter_map(gateway).collect()
}

/// Of the kernel's list: destination, its prefix length, source, its prefix length, gateway.
fn gateways_v6(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (_, length) = (fields.next()?, fields.next()?);
        let gateway = fields.nth(2)?;
        let address = Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
        let is_default = length == "00" && !address.is_unspecified();
        is_default.then_some(IpAddr::V6(address))
    };
    routes.lines().filter_map(gateway).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_of_the_default_route_is_found_and_no_other() {
        let gateway = u32::from_ne_bytes([10, 0, 0, 1]);
        let routes = format!(
            "Iface\tDestination\tGateway\tFlags\n\
             eth0\t00000000\t{gateway:08X}\t0003\t0\t0\t0\t00000000\n\
             eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
        );
        assert_eq!(gateways_v4(&routes), [IpAddr::from([10, 0, 0, 1])]);
        assert!(gateways_v4("").is_empty());
    }

    #[test]
    fn the_same_for_ipv6() {
        let zero = "0".repeat(32);
        let gateway = "fe80000000000000000000000000000a";
        let routes = format!(
            "{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003 eth0\n\
             fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 1 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 200200 lo\n"
        );
        assert_eq!(gateways_v6(&routes), ["fe80::a".parse::<IpAddr>().unwrap()]);
    }
}
