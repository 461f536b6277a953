//! Addresses and address blocks on the wire: 4 or 16 bytes, network byte order.

use std::net::IpAddr;

use weft_model::address::{AddressBlock, InvalidAddressBlock, canonical_ip};

use crate::v1;

/// The reason why a message is not an address or an address block.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAddress {
    /// Neither IPv4 nor IPv6.
    #[error("an address has 4 or 16 bytes, not {0}")]
    Length(usize),
    /// A prefix that no block can have.
    #[error(transparent)]
    Block(#[from] InvalidAddressBlock),
    /// A prefix length that fits no family.
    #[error("{0} is not a prefix length")]
    PrefixLength(u32),
}

/// An address from its bytes.
pub(crate) fn parse_address(bytes: &[u8]) -> Result<IpAddr, InvalidAddress> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(canonical_ip(IpAddr::from(v6))),
        Err(_) => Err(InvalidAddress::Length(bytes.len())),
    }
}

/// The bytes of an address.
pub(crate) fn address_bytes(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

impl TryFrom<v1::AddressBlock> for AddressBlock {
    type Error = InvalidAddress;

    fn try_from(message: v1::AddressBlock) -> Result<Self, Self::Error> {
        let length = u8::try_from(message.prefix_length)
            .map_err(|_| InvalidAddress::PrefixLength(message.prefix_length))?;
        Ok(AddressBlock::new(parse_address(&message.network)?, length)?)
    }
}

impl From<&AddressBlock> for v1::AddressBlock {
    fn from(block: &AddressBlock) -> Self {
        Self {
            network: address_bytes(&block.network()),
            prefix_length: u32::from(block.prefix_length()),
        }
    }
}

/// A port number that a connection can go to; `None` for 0 and what is too large.
pub(crate) fn parse_port(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
