//! Attributes of netlink messages (RFC 3549; `linux/netlink.h`, `struct nlattr`). Pure.

/// One that consists of others.
const NLA_F_NESTED: u16 = 0x8000;

/// Attributes of a message, each with its length and kind, at multiples of four bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// All of them, as they go over the wire.
    pub(super) fn bytes_of(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes(mut self, kind: u16, bytes: &[u8]) -> Self {
        // Length and kind are of two bytes each. Ours are all short.
        self.0.extend(((4 + bytes.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// nf_tables has its numbers in network byte order.
    pub(super) fn number(self, kind: u16, number: u32) -> Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Routing has them in the processor's own order.
    pub(super) fn native_number(self, kind: u16, number: u32) -> Self {
        self.bytes(kind, &number.to_ne_bytes())
    }

    pub(super) fn nested(self, kind: u16, attributes: Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &attributes.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_say_their_own_length() {
        let attributes = Attributes::new().text(1, "weft").number(2, 7);
        let expected = [
            &9_u16.to_ne_bytes()[..],
            &1_u16.to_ne_bytes(),
            b"weft\0\0\0\0",
            &8_u16.to_ne_bytes(),
            &2_u16.to_ne_bytes(),
            &[0, 0, 0, 7],
        ];
        assert_eq!(attributes.0, expected.concat());
    }
}
