//! Expressions of nf_tables rules (`linux/netfilter/nf_tables.h`). Pure.

use super::attributes::Attributes;
use super::error::Feature;

/// One step of a rule. All of them share one register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Expression {
    /// Loads a property of the packet that is in none of its headers.
    Meta(MetaKey),
    /// Loads bytes of a header.
    Payload {
        base: Base,
        offset: u32,
        length: u32,
    },
    /// Loads the type of the route to the packet's destination.
    DestinationType,
    /// Loads the type of the route to the packet's source.
    SourceType,
    /// Loads a property of the packet's connection.
    Connection(ConnectionKey),
    /// Clears bits of what was loaded.
    Mask(Vec<u8>),
    /// Ends the rule unless what was loaded compares with this.
    Compare(Operator, Vec<u8>),
    /// Leaves the chain.
    Return,
    /// Takes the packet away, without an answer.
    Drop,
    /// Loads a port.
    Port(u16),
    /// Sends the connection to the port that was loaded, on an address of this host.
    Redirect,
    /// Gives the packet to the socket that has its connection, else to the listener on the port
    /// that was loaded; leaves the rule where neither is transparent.
    Tproxy,
    /// Loads a mark.
    Mark(u32),
    /// Marks the packet by what was loaded.
    MarkPacket,
    /// Marks the packet's connection by what was loaded.
    MarkConnection,
}

/// `enum nft_meta_keys`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MetaKey {
    Mark = 3,
    InputInterface = 6,
    SocketUser = 10,
    NetworkProtocol = 15,
    TransportProtocol = 16,
}

/// `enum nft_ct_keys`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConnectionKey {
    Direction = 1,
    Mark = 3,
}

/// `enum nft_payload_bases`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Base {
    Network = 1,
    Transport = 2,
}

/// `enum nft_cmp_ops`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Equal = 0,
    NotEqual = 1,
}

/// The register that takes verdicts, and the one that we use, of 16 bytes
/// (`enum nft_registers`).
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
/// The verdicts that leave a chain (`enum nft_verdicts`), and that drop (`linux/netfilter.h`, NF_DROP).
const RETURN: i32 = -5;
const DROP: i32 = 0;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`.
const VALUE: u16 = 1;
const OF_VERDICT: u16 = 2;
const CODE: u16 = 1;
/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_SADDR`, `NFTA_FIB_F_DADDR`.
const ADDRESS_TYPE: u32 = 3;
const OF_SOURCE: u32 = 1;
const OF_DESTINATION: u32 = 2;

impl Expression {
    /// The kernel's name for it.
    fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) | Self::MarkPacket => "meta",
            Self::Connection(_) | Self::MarkConnection => "ct",
            Self::Payload { .. } => "payload",
            Self::DestinationType | Self::SourceType => "fib",
            Self::Mask(_) => "bitwise",
            Self::Compare(..) => "cmp",
            Self::Return | Self::Drop | Self::Port(_) | Self::Mark(_) => "immediate",
            Self::Redirect => "redir",
            Self::Tproxy => "tproxy",
        }
    }

    /// What a kernel needs for it.
    pub(super) fn feature(&self) -> Feature {
        match self {
            Self::DestinationType | Self::SourceType => Feature::RouteType,
            Self::Redirect => Feature::Redirect,
            Self::Tproxy => Feature::Tproxy,
            Self::Connection(_) | Self::MarkConnection => Feature::ConnectionMark,
            _ => Feature::BuiltIn,
        }
    }

    /// Name and data, as an element of a rule's list.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes::new()
            .text(1, self.name())
            .nested(2, self.data())
    }

    fn data(&self) -> Attributes {
        let value = |bytes: &[u8]| Attributes::new().bytes(VALUE, bytes);
        let attributes = Attributes::new();
        match self {
            Self::Meta(key) => attributes.number(1, REGISTER).number(2, *key as u32),
            Self::Payload {
                base,
                offset,
                length,
            } => attributes
                .number(1, REGISTER)
                .number(2, *base as u32)
                .number(3, *offset)
                .number(4, *length),
            Self::DestinationType => route_type(OF_DESTINATION),
            Self::SourceType => route_type(OF_SOURCE),
            Self::Connection(key) => attributes.number(1, REGISTER).number(2, *key as u32),
            Self::Mask(mask) => attributes
                .number(1, REGISTER)
                .number(2, REGISTER)
                .number(3, u32::try_from(mask.len()).unwrap_or_default())
                .nested(4, value(mask))
                .nested(5, value(&vec![0; mask.len()])),
            Self::Compare(operator, bytes) => attributes
                .number(1, REGISTER)
                .number(2, *operator as u32)
                .nested(3, value(bytes)),
            Self::Return => verdict(RETURN),
            Self::Drop => verdict(DROP),
            Self::Port(port) => attributes
                .number(1, REGISTER)
                .nested(2, value(&port.to_be_bytes())),
            Self::Mark(mark) => attributes
                .number(1, REGISTER)
                .nested(2, value(&mark.to_ne_bytes())),
            Self::Redirect => attributes.number(1, REGISTER),
            // Of both families, on whatever address the packet is for.
            Self::Tproxy => attributes.number(1, 0).number(3, REGISTER),
            Self::MarkPacket => attributes
                .number(2, MetaKey::Mark as u32)
                .number(3, REGISTER),
            Self::MarkConnection => attributes
                .number(2, ConnectionKey::Mark as u32)
                .number(4, REGISTER),
        }
    }
}

fn verdict(code: i32) -> Attributes {
    let code = Attributes::new().bytes(CODE, &code.to_be_bytes());
    let verdict = Attributes::new().nested(OF_VERDICT, code);
    Attributes::new().number(1, VERDICT).nested(2, verdict)
}

fn route_type(of: u32) -> Attributes {
    Attributes::new()
        .number(1, REGISTER)
        .number(2, ADDRESS_TYPE)
        .number(3, of)
}
