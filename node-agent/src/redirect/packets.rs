//! The packets by which a held connection goes on or ends.

use std::net::{IpAddr, SocketAddr};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const HOPS: u8 = 64;
/// Place of the checksum in a TCP header (RFC 9293 section 3.1).
const TCP_CHECKSUM: usize = 16;
/// Bytes behind the IP header that an error quotes at least: ports and sequence number.
const QUOTED: usize = 8;

/// Why a destination can't be connected to, as the kernel tells applications.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreachable {
    /// Nobody listens: ECONNREFUSED.
    Port,
    /// EHOSTUNREACH.
    Host,
    /// ENETUNREACH.
    Network,
}

/// A SYN once more, with the IP header that it had. `segment` is its TCP header.
pub(super) fn syn(source: SocketAddr, destination: SocketAddr, segment: &[u8]) -> Vec<u8> {
    let ends = (source.ip(), destination.ip());
    let mut segment = segment.to_vec();
    // Over loopback the kernel leaves it to be computed by nobody.
    fill_checksum(&mut segment, TCP_CHECKSUM, pseudo_header(ends, TCP));
    with_ip_header(ends, TCP, &segment)
}

/// The error that a SYN could have had for an answer (RFC 792, RFC 4443 section 3.1): the
/// kernel finds the connection by the header that is quoted.
pub(super) fn unreachable(
    source: SocketAddr,
    destination: SocketAddr,
    segment: &[u8],
    why: Unreachable,
) -> Vec<u8> {
    let ends = (source.ip(), destination.ip());
    let quoted = segment.get(..QUOTED).unwrap_or(segment);
    let quoted = with_ip_header(ends, TCP, quoted);
    let back = (destination.ip(), source.ip());
    let (protocol, kind, code, sum) = match source.is_ipv4() {
        true => (ICMP, 3, icmp_code(why), 0),
        false => (ICMPV6, 1, icmpv6_code(why), pseudo_header(back, ICMPV6)),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(quoted);
    fill_checksum(&mut message, 2, sum);
    with_ip_header(back, protocol, &message)
}

fn icmp_code(why: Unreachable) -> u8 {
    match why {
        Unreachable::Network => 0,
        Unreachable::Host => 1,
        Unreachable::Port => 3,
    }
}

fn icmpv6_code(why: Unreachable) -> u8 {
    match why {
        Unreachable::Network => 0,
        Unreachable::Host => 3,
        Unreachable::Port => 4,
    }
}

/// An IP packet (RFC 791, RFC 8200). The kernel fills in IPv4's checksum.
fn with_ip_header((source, destination): (IpAddr, IpAddr), protocol: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = length(data.len() + 20);
            let mut header = vec![0x45, 0, high, low, 0, 0, 0, 0, HOPS, protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (source, destination) => {
            let [high, low] = length(data.len());
            let mut header = vec![0x60, 0, 0, 0, high, low, protocol, HOPS];
            header.extend(octets(source));
            header.extend(octets(destination));
            header
        }
    };
    packet.extend(data);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A length that is far below the limit of an IP packet.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// The sum of what a checksum covers beside the data (RFC 9293 section 3.1, RFC 8200 section
/// 8.1), but for the length.
fn pseudo_header((source, destination): (IpAddr, IpAddr), protocol: u8) -> u32 {
    sum(&octets(source)) + sum(&octets(destination)) + u32::from(protocol)
}

/// Computes the checksum of data (RFC 1071) from the sum that is covered beside it, which is 0
/// where nothing is.
fn fill_checksum(data: &mut [u8], at: usize, beside: u32) {
    let covered = match beside {
        0 => 0,
        beside => beside + u32::try_from(data.len()).unwrap_or(0),
    };
    let Some(field) = data.get_mut(at..at + 2) else {
        return;
    };
    field.fill(0);
    let mut total = covered + sum(data);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    let checksum = !u16::try_from(total).unwrap_or(u16::MAX);
    if let Some(field) = data.get_mut(at..at + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The sum of 16-bit words in network order.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    words.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: [u8; 20] = [
        0xc3, 0x50, 0x3a, 0x99, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0xaa, 0xbb, 0, 0,
    ];

    fn ends(address: &str) -> (SocketAddr, SocketAddr) {
        let address: IpAddr = address.parse().unwrap();
        ((address, 50000).into(), (address, 15001).into())
    }

    /// The sum over something with its right checksum.
    fn verified(data: &[u8], beside: u32) -> u32 {
        let mut total = sum(data) + beside;
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total
    }

    #[test]
    fn a_syn_has_the_checksum_that_the_kernel_asks_for() {
        for (address, header) in [("127.0.0.1", 20), ("::1", 40)] {
            let (source, destination) = ends(address);
            let packet = syn(source, destination, &SEGMENT);
            let segment = &packet[header..];
            assert_eq!(segment[..16], SEGMENT[..16]);
            let covered = pseudo_header((source.ip(), destination.ip()), TCP) + 20;
            assert_eq!(verified(segment, covered), 0xffff, "{address}");
        }
    }

    #[test]
    fn an_error_quotes_the_connection_and_says_why() {
        let (source, destination) = ends("127.0.0.1");
        let packet = unreachable(source, destination, &SEGMENT, Unreachable::Port);
        assert_eq!(packet.len(), 20 + 8 + 20 + QUOTED);
        assert_eq!((packet[9], packet[20], packet[21]), (ICMP, 3, 3));
        assert_eq!(verified(&packet[20..], 0), 0xffff);
        assert_eq!(packet[48..], SEGMENT[..QUOTED]);

        let (source, destination) = ends("::1");
        let packet = unreachable(source, destination, &SEGMENT, Unreachable::Network);
        assert_eq!((packet[6], packet[40], packet[41]), (ICMPV6, 1, 0));
        let covered = pseudo_header((destination.ip(), source.ip()), ICMPV6);
        let covered = covered + u32::try_from(packet.len() - 40).unwrap();
        assert_eq!(verified(&packet[40..], covered), 0xffff);
    }
}
