//! The headers of a packet.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use aya_ebpf::programs::SkBuffContext;
use weft_ebpf_common::{Connection, SocketAddress};

/// Offsets of both ends in IP headers (RFC 791, RFC 8200).
const SOURCE_V4: u32 = 12;
const DESTINATION_V4: u32 = 16;
const SOURCE_V6: u32 = 8;
const DESTINATION_V6: u32 = 24;
/// What follows the header.
const PROTOCOL_V4: u32 = 9;
const NEXT_HEADER_V6: u32 = 6;
const LENGTH_V6: u32 = 40;
const IPPROTO_TCP: u8 = 6;

/// Both ends of a TCP segment with these ports, the sender's as the source.
#[inline(always)]
pub fn connection(context: &SkBuffContext, from: [u8; 2], to: [u8; 2]) -> Option<Connection> {
    let [first] = network::<1>(context, 0)?;
    let (source, destination) = match first >> 4 {
        4 => (
            SocketAddress::from_v4(network(context, SOURCE_V4)?, from),
            SocketAddress::from_v4(network(context, DESTINATION_V4)?, to),
        ),
        _ => (
            SocketAddress::new(network(context, SOURCE_V6)?, from),
            SocketAddress::new(network(context, DESTINATION_V6)?, to),
        ),
    };
    Some(Connection {
        source,
        destination,
    })
}

/// The ports of a TCP segment, the sender's first. None where other headers of IPv6 come before.
#[inline(always)]
pub fn ports(context: &SkBuffContext) -> Option<([u8; 2], [u8; 2])> {
    let [first] = network::<1>(context, 0)?;
    let (protocol, length) = match first >> 4 {
        // In words.
        4 => (PROTOCOL_V4, u32::from(first & 0xf) * 4),
        _ => (NEXT_HEADER_V6, LENGTH_V6),
    };
    let [protocol] = network::<1>(context, protocol)?;
    if protocol != IPPROTO_TCP {
        return None;
    }
    Some((network(context, length)?, network(context, length + 2)?))
}

/// Bytes from the beginning of the IP header.
#[inline(always)]
fn network<const LENGTH: usize>(context: &SkBuffContext, offset: u32) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    // SAFETY: `bytes` outlives the call and has the length given.
    let loaded = unsafe {
        bpf_skb_load_bytes_relative(
            context.as_ptr(),
            offset,
            bytes.as_mut_ptr().cast(),
            LENGTH as u32,
            BPF_HDR_START_NET,
        )
    };
    (loaded == 0).then_some(bytes)
}
