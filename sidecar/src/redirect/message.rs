//! Messages of netlink to nf_tables and routing (RFC 3549; `linux/netlink.h`,
//! `linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`). Pure.

use super::attributes::Attributes;
use super::expression::Expression;
use super::rules::Chain;

/// The table. Nobody else's has that name.
const TABLE: &str = "weft";
/// Rules for IPv4 and IPv6 alike (NFPROTO_INET).
const FAMILY: u8 = libc::NFPROTO_INET as u8;

/// `enum nf_tables_msg_types`.
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
/// `NFNL_SUBSYS_NFTABLES`, `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const NF_TABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// A message without its number.
#[derive(Clone, Debug)]
pub(super) struct Message {
    kind: u16,
    flags: u16,
    /// What comes before its attributes, such as a `struct nfgenmsg`.
    general: Vec<u8>,
    attributes: Attributes,
}

impl Message {
    fn of_table(kind: u16, flags: u16, attributes: Attributes) -> Self {
        Self {
            kind: NF_TABLES << 8 | kind,
            flags: NLM_F_REQUEST | NLM_F_ACK | flags,
            general: vec![FAMILY, 0, 0, 0],
            attributes,
        }
    }

    /// One to routing, with the structure that its kind begins with.
    pub(super) fn of_routing(
        kind: u16,
        flags: u16,
        general: &[u8],
        attributes: Attributes,
    ) -> Self {
        Self {
            kind,
            flags: NLM_F_REQUEST | NLM_F_ACK | flags,
            general: general.to_vec(),
            attributes,
        }
    }

    fn of_batch(kind: u16) -> Self {
        let [high, low] = NF_TABLES.to_be_bytes();
        Self {
            kind,
            flags: NLM_F_REQUEST,
            general: vec![0, 0, high, low],
            attributes: Attributes::new(),
        }
    }

    /// Its bytes, as the message of that number.
    pub(super) fn append_to(&self, buffer: &mut Vec<u8>, sequence: u32) {
        let length = HEADER + self.general.len() + self.attributes.bytes_of().len();
        buffer.extend((length as u32).to_ne_bytes());
        buffer.extend(self.kind.to_ne_bytes());
        buffer.extend(self.flags.to_ne_bytes());
        buffer.extend(sequence.to_ne_bytes());
        // The kernel knows whom to answer.
        buffer.extend([0; 4]);
        buffer.extend(&self.general);
        buffer.extend(self.attributes.bytes_of());
    }
}

/// The beginning of a transaction.
pub(super) fn begin() -> Message {
    Message::of_batch(BATCH_BEGIN)
}

/// The end of a transaction; without it nothing of it happens.
pub(super) fn end() -> Message {
    Message::of_batch(BATCH_END)
}

/// Makes the table unless it is there.
pub(super) fn create_table() -> Message {
    let attributes = Attributes::new().text(1, TABLE).number(2, 0);
    Message::of_table(NEW_TABLE, NLM_F_CREATE, attributes)
}

/// Deletes the table with all that is in it.
pub(super) fn delete_table() -> Message {
    Message::of_table(DELETE_TABLE, 0, Attributes::new().text(1, TABLE))
}

/// Makes a chain.
pub(super) fn create_chain(chain: &Chain) -> Message {
    let hook = Attributes::new()
        .number(1, chain.hook as u32)
        .bytes(2, &chain.kind.priority().to_be_bytes());
    let attributes = Attributes::new()
        .text(1, TABLE)
        .text(3, chain.name)
        .nested(4, hook)
        .text(7, chain.kind.name());
    Message::of_table(NEW_CHAIN, NLM_F_CREATE, attributes)
}

/// Appends a rule to a chain.
pub(super) fn create_rule(chain: &Chain, rule: &[Expression]) -> Message {
    let elements = rule.iter().fold(Attributes::new(), |list, expression| {
        list.nested(1, expression.attributes())
    });
    let attributes = Attributes::new()
        .text(1, TABLE)
        .text(2, chain.name)
        .nested(4, elements);
    Message::of_table(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, attributes)
}

/// An answer to a message: its number, and the error, zero for none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Acknowledgement {
    pub(super) sequence: u32,
    pub(super) error: i32,
}

/// The acknowledgements in what the kernel has sent.
pub(super) fn acknowledgements(mut bytes: &[u8]) -> Vec<Acknowledgement> {
    const NLMSG_ERROR: u16 = 2;
    let mut all = Vec::new();
    while let Some((kind, sequence, body, rest)) = split(bytes) {
        if kind == NLMSG_ERROR
            && let Some(error) = body.first_chunk()
        {
            let error = i32::from_ne_bytes(*error);
            all.push(Acknowledgement { sequence, error });
        }
        bytes = rest;
    }
    all
}

/// The first message: its kind, its number, its body, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_read_and_nothing_else() {
        let mut bytes = Vec::new();
        for (kind, sequence, error) in [(2_u16, 3_u32, 0_i32), (3, 4, -1), (2, 5, -2)] {
            bytes.extend(20_u32.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 2]);
            bytes.extend(sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(error.to_ne_bytes());
        }
        let of = |sequence, error| Acknowledgement { sequence, error };
        assert_eq!(acknowledgements(&bytes), [of(3, 0), of(5, -2)]);
        for cut in 0..bytes.len() {
            acknowledgements(&bytes[..cut]);
        }
        assert!(acknowledgements(&[0; 64]).is_empty());
    }
}
