//! Chunk extensions: `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC
//! 9112 section 7.1.1).
//!
//! Nobody uses them, and nobody needs to understand them: all that matters is that they end
//! with their line. A reader that looks for the end of a quoted string may look beyond that
//! line; so what isn't the grammar's is refused.

use crate::characters::{is_token_char, is_whitespace};

/// What the next byte of a chunk's extensions may be, behind their first semicolon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ChunkExtension {
    /// White space, or the name's first character.
    BeforeName,
    /// Of the name, or what may follow it.
    Name,
    /// White space behind the name, the equals sign, or the next semicolon.
    AfterName,
    /// White space, or the value's first character.
    BeforeValue,
    /// Of a value that is a token, or what may follow it.
    Token,
    /// Of a quoted string.
    Quoted,
    /// The character that a backslash takes its meaning from.
    Escaped,
    /// What may follow a quoted string.
    AfterQuoted,
    /// White space behind the value, or the next semicolon.
    AfterValue,
}

impl ChunkExtension {
    /// What may follow `byte`; `None` when it may not stand here.
    pub(crate) fn next(self, byte: u8) -> Option<Self> {
        match self {
            Self::BeforeName | Self::Name if is_token_char(byte) => Some(Self::Name),
            Self::BeforeName => is_whitespace(byte).then_some(self),
            Self::Name | Self::AfterName => match byte {
                b'=' => Some(Self::BeforeValue),
                b';' => Some(Self::BeforeName),
                _ => is_whitespace(byte).then_some(Self::AfterName),
            },
            Self::BeforeValue if byte == b'"' => Some(Self::Quoted),
            Self::BeforeValue | Self::Token if is_token_char(byte) => Some(Self::Token),
            Self::BeforeValue => is_whitespace(byte).then_some(self),
            Self::Quoted => match byte {
                b'"' => Some(Self::AfterQuoted),
                b'\\' => Some(Self::Escaped),
                _ => is_quotable(byte).then_some(self),
            },
            Self::Escaped => is_quotable(byte).then_some(Self::Quoted),
            Self::Token | Self::AfterQuoted | Self::AfterValue => match byte {
                b';' => Some(Self::BeforeName),
                _ => is_whitespace(byte).then_some(Self::AfterValue),
            },
        }
    }

    /// Whether the line may end here.
    pub(crate) fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::AfterQuoted)
    }
}

/// A character of a quoted string: no control character but HTAB (RFC 9110 section 5.6.4).
fn is_quotable(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a line may hold this behind its first semicolon.
    fn is_whole(text: &str) -> bool {
        let mut bytes = text.bytes();
        let end = bytes.try_fold(ChunkExtension::BeforeName, ChunkExtension::next);
        end.is_some_and(ChunkExtension::may_end)
    }

    #[test]
    fn what_the_grammar_has_is_taken() {
        for text in [
            "a",
            " a",
            "a=b",
            "a = b",
            "a\t=\tb ; c",
            "a=\"\"",
            "a=\"b c;d=e\"",
            "a=\"b\\\"c\\\\\";d",
            "chunk-signature=0123456789abcdef",
        ] {
            assert!(is_whole(text), "{text:?}");
        }
    }

    #[test]
    fn what_ends_amid_something_is_not() {
        for text in [
            "",
            " ",
            "a ",
            "a=",
            "a= ",
            "a;",
            "a=b ",
            "a=\"b",
            "a=\"b\\\"",
            "a=\"b\" ",
        ] {
            assert!(!is_whole(text), "{text:?}");
        }
    }

    #[test]
    fn what_the_grammar_does_not_have_is_not() {
        for text in [
            "=",
            "=b",
            "a b",
            "a==b",
            "a=b=c",
            "a=b c",
            "a=\"b\"c",
            "a\"b\"",
            "a=b\"c\"",
            "[a]",
            "a=\"\u{1}\"",
            "a\u{1}",
            "\u{e9}",
            ";a",
            "a;;b",
            "a=;b",
        ] {
            assert!(!is_whole(text), "{text:?}");
        }
    }
}
