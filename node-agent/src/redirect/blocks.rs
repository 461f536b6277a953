//! Excluded address blocks, as the kernel's longest-prefix trie holds them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use weft_ebpf_common::{ExcludedBlock, NamespaceCookie};
use weft_model::AddressBlock;

/// Length in bits, and the data of which so many count.
pub(super) type TrieKey = (u32, ExcludedBlock);

const MAPPED_PREFIX_LENGTH: u8 = 96;

/// The trie entries for a namespace's excluded blocks, and whether each excludes. A
/// short IPv6 block would also match the IPv4 addresses, which look like `::ffff:a.b.c.d`
/// to the programs: a more specific entry takes these out again.
pub(super) fn trie_entries(
    namespace: NamespaceCookie,
    blocks: &[AddressBlock],
) -> HashMap<TrieKey, u8> {
    let key = |address, length: u8| {
        let bits = ExcludedBlock::NAMESPACE_BITS + u32::from(length);
        (bits, ExcludedBlock::new(namespace, address))
    };
    let ipv4 = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
    let covers_ipv4 = |block: &AddressBlock| {
        block.prefix_length() <= MAPPED_PREFIX_LENGTH
            && has_prefix(ipv4, block.network(), block.prefix_length())
    };
    let mut entries = HashMap::new();
    if blocks.iter().any(covers_ipv4) {
        entries.insert(key(ipv4.octets(), MAPPED_PREFIX_LENGTH), 0);
    }
    for block in blocks {
        let (address, length) = block.to_mapped();
        entries.insert(key(address, length), 1);
    }
    entries
}

fn has_prefix(address: Ipv6Addr, network: IpAddr, length: u8) -> bool {
    let IpAddr::V6(network) = network else {
        return false;
    };
    let keep = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    u128::from(address) & keep == u128::from(network) & keep
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: NamespaceCookie = NamespaceCookie::new(7);

    fn entries(blocks: &[&str]) -> Vec<(u32, u8)> {
        let blocks: Vec<AddressBlock> = blocks.iter().map(|text| text.parse().unwrap()).collect();
        let entries = trie_entries(NAMESPACE, &blocks);
        let mut lengths: Vec<_> = entries
            .into_iter()
            .map(|((length, _), excluded)| (length, excluded))
            .collect();
        lengths.sort_unstable();
        lengths
    }

    #[test]
    fn blocks_become_trie_entries_behind_the_namespace() {
        assert_eq!(
            entries(&["10.0.0.0/8", "fd00::/8"]),
            [(64 + 8, 1), (64 + 96 + 8, 1)]
        );
    }

    #[test]
    fn an_ipv6_block_never_excludes_ipv4() {
        assert_eq!(entries(&["::/0"]), [(64, 1), (64 + 96, 0)]);
        assert_eq!(entries(&["::/0", "0.0.0.0/0"]), [(64, 1), (64 + 96, 1)]);
        assert_eq!(entries(&["fd00::/8"]), [(64 + 8, 1)]);
    }
}
