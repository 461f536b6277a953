//! Addresses, in one canonical form.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The IPv4 form of an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2);
/// any other address as it is.
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Like [`canonical_ip`], for an address with its port. Flow label and scope of
/// an IPv6 address are dropped: they say nothing about where it goes.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

/// The address that an application asked for before its connection was captured.
/// Always canonical: an IPv4-mapped IPv6 destination is an IPv4 one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OriginalDestination(SocketAddr);

impl OriginalDestination {
    /// Takes the address as the socket had it.
    pub fn new(address: SocketAddr) -> Self {
        Self(canonical(address))
    }

    /// The canonical address and port.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for OriginalDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A block of addresses in CIDR notation: `10.0.0.0/8`, `fd00::/8`, or a single
/// address. Host bits must be zero, so that a typing error doesn't silently
/// mean a larger block.
///
/// ```
/// use weft_model::AddressBlock;
///
/// let block: AddressBlock = "10.0.0.0/8".parse()?;
/// assert!(block.contains("10.1.2.3".parse()?));
/// assert!(block.contains("::ffff:10.1.2.3".parse()?), "an IPv4 address, too");
/// assert!(!block.contains("11.0.0.1".parse()?));
/// let error = "10.0.0.1/8".parse::<AddressBlock>().unwrap_err();
/// assert!(error.to_string().contains("did you mean 10.0.0.0/8?"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressBlock {
    network: IpAddr,
    prefix_length: u8,
}

/// The reason why a text is not an address block.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAddressBlock {
    /// The part before the slash is no IP address.
    #[error("`{0}` is not an IP address; write a block as 10.0.0.0/8 or fd00::/8")]
    Address(String),
    /// The part after the slash is no prefix length for that family.
    #[error("`{0}` is not a prefix length between 0 and {1}")]
    PrefixLength(String, u8),
    /// Bits are set behind the prefix.
    #[error("{0}/{1} has bits set behind its prefix; did you mean {2}/{1}?")]
    HostBits(IpAddr, u8, IpAddr),
}

impl AddressBlock {
    /// A block from its network address and prefix length, in bits.
    ///
    /// # Errors
    /// When the prefix is too long for the family or host bits are set.
    pub fn new(network: IpAddr, prefix_length: u8) -> Result<Self, InvalidAddressBlock> {
        let longest = width(network);
        if prefix_length > longest {
            return Err(InvalidAddressBlock::PrefixLength(
                prefix_length.to_string(),
                longest,
            ));
        }
        let masked = mask(network, prefix_length);
        if masked != network {
            return Err(InvalidAddressBlock::HostBits(
                network,
                prefix_length,
                masked,
            ));
        }
        Ok(Self {
            network,
            prefix_length,
        })
    }

    /// The first address of the block.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Length of the prefix in bits: up to 32 for IPv4, up to 128 for IPv6.
    pub fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Whether the address lies in the block. IPv4-mapped addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical_ip(address);
        width(address) == width(self.network) && mask(address, self.prefix_length) == self.network
    }

    /// All addresses of the other block lie in this one.
    pub fn contains_block(&self, other: &Self) -> bool {
        let ((network, length), (other, other_length)) = (self.to_mapped(), other.to_mapped());
        let prefix = |network: [u8; 16]| {
            let behind = 128 - u32::from(length);
            u128::from_be_bytes(network).checked_shr(behind)
        };
        other_length >= length && prefix(network) == prefix(other)
    }

    /// The block as the kernel's longest-prefix maps hold it: sixteen bytes,
    /// IPv4 as `::ffff:a.b.c.d`, and the prefix length within those 128 bits.
    pub fn to_mapped(&self) -> ([u8; 16], u8) {
        match self.network {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), self.prefix_length + 96),
            IpAddr::V6(v6) => (v6.octets(), self.prefix_length),
        }
    }
}

impl FromStr for AddressBlock {
    type Err = InvalidAddressBlock;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address
            .parse()
            .map_err(|_| InvalidAddressBlock::Address(address.to_owned()))?;
        let longest = width(network);
        let prefix_length = match prefix {
            None => longest,
            Some(prefix) => prefix
                .parse()
                .map_err(|_| InvalidAddressBlock::PrefixLength(prefix.to_owned(), longest))?,
        };
        Self::new(network, prefix_length)
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_length)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask(address: IpAddr, prefix_length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX
                .checked_shl(32 - u32::from(prefix_length))
                .unwrap_or(0);
            IpAddr::V4((u32::from(v4) & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX
                .checked_shl(128 - u32::from(prefix_length))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & keep))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        let plain: SocketAddr = "10.0.0.1:80".parse().unwrap();
        assert_eq!(
            OriginalDestination::new(mapped),
            OriginalDestination::new(plain)
        );
    }

    #[test]
    fn a_block_contains_the_blocks_all_of_whose_addresses_it_has() {
        let contains = |one: &str, other: &str| {
            let block = |text: &str| text.parse::<AddressBlock>().unwrap();
            block(one).contains_block(&block(other))
        };
        assert!(contains("10.0.0.0/8", "10.0.0.0/8"));
        assert!(contains("10.0.0.0/8", "10.1.0.0/16"));
        assert!(!contains("10.1.0.0/16", "10.0.0.0/8"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0/16"));
        assert!(contains("0.0.0.0/0", "10.0.0.0/8"));
        assert!(!contains("0.0.0.0/0", "::/0"));
        assert!(contains("::/0", "fd00::/8"));
        // More than it, in other words.
        assert!(!contains("0.0.0.0/8", "::ffff:0.0.0.0/100"));
    }

    #[test]
    fn a_block_with_host_bits_is_refused_with_a_proposal() {
        let error = "10.1.2.3/8".parse::<AddressBlock>().unwrap_err();
        assert!(
            error.to_string().contains("did you mean 10.0.0.0/8"),
            "{error}"
        );
        assert!("10.0.0.0/33".parse::<AddressBlock>().is_err());
        assert!("ten/8".parse::<AddressBlock>().is_err());
    }

    #[test]
    fn families_do_not_mix() {
        let everything4: AddressBlock = "0.0.0.0/0".parse().unwrap();
        assert!(everything4.contains("1.2.3.4".parse().unwrap()));
        assert!(everything4.contains("::ffff:1.2.3.4".parse().unwrap()));
        assert!(!everything4.contains("fd00::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_block_contains_exactly_its_prefix(bits: u128, other: u128, length in 0u8..=128) {
            let network = mask(IpAddr::V6(bits.into()), length);
            // An IPv4-mapped network would be compared as IPv4.
            prop_assume!(network.to_canonical().is_ipv6());
            let block = AddressBlock::new(network, length).unwrap();
            prop_assert!(block.contains(IpAddr::V6(bits.into())) || IpAddr::V6(bits.into()).to_canonical().is_ipv4());
            let shared = (bits ^ other).leading_zeros() >= u32::from(length);
            let other = IpAddr::V6(other.into());
            prop_assume!(other.to_canonical().is_ipv6());
            prop_assert_eq!(block.contains(other), shared);
        }

        #[test]
        fn text_round_trips(bits: u32, length in 0u8..=32) {
            let block = AddressBlock::new(mask(IpAddr::V4(bits.into()), length), length).unwrap();
            prop_assert_eq!(block.to_string().parse::<AddressBlock>().unwrap(), block);
        }
    }
}
