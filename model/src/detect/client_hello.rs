//! The ClientHello of a TLS connection (RFC 8446 section 4.1.2), parsed for the server name.
//!
//! Only as much is looked at as it takes to find the name. Whoever terminates the TLS checks
//! the rest.

use std::sync::Arc;

use crate::host::normalize_host;

/// Longest ClientHello that is parsed, with its record headers, in bytes. What browsers send
/// with post-quantum key shares takes less than an eighth of it.
pub const MAX_CLIENT_HELLO_LENGTH: usize = 16 * 1024;

/// The type of records that carry handshake messages (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// The type of the message (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// The extension with the name, and the type of names (RFC 6066 section 3).
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The parts of a ClientHello that routing needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientHello {
    /// Server name (SNI) in lower case; `None` when the client names none.
    pub server_name: Option<Arc<str>>,
}

/// The reason why bytes don't begin with a ClientHello.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidClientHello {
    /// Another protocol.
    #[error("the client doesn't speak TLS")]
    NotTls,
    /// Something in it isn't as it has to be.
    #[error("the client's TLS is malformed: {0}")]
    Malformed(&'static str),
    /// It doesn't end.
    #[error("the client's first TLS message is longer than {MAX_CLIENT_HELLO_LENGTH} bytes")]
    TooLong,
}

use InvalidClientHello::{Malformed, NotTls, TooLong};

/// Parses the ClientHello that a connection begins with; `None` when more bytes are needed.
///
/// # Errors
/// When it isn't a ClientHello, whatever bytes would follow.
pub fn parse(first: &[u8]) -> Result<Option<ClientHello>, InvalidClientHello> {
    let parsed = &first[..first.len().min(MAX_CLIENT_HELLO_LENGTH)];
    match handshake_message(parsed)? {
        Some(message) => parse_body(&message).map(Some),
        None if first.len() >= MAX_CLIENT_HELLO_LENGTH => Err(TooLong),
        None => Ok(None),
    }
}

/// The first message without its header, put together from the records that it is in.
fn handshake_message(bytes: &[u8]) -> Result<Option<Vec<u8>>, InvalidClientHello> {
    let (mut message, mut rest) = (Vec::new(), bytes);
    loop {
        let is_other = |at: usize, value| rest.get(at).is_some_and(|byte| *byte != value);
        if is_other(0, HANDSHAKE) || is_other(1, 3) {
            return Err(match message.is_empty() {
                true => NotTls,
                false => Malformed("another record comes before its end"),
            });
        }
        let Some((&[_, _, _, high, low], following)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 {
            return Err(Malformed("an empty record"));
        }
        let there = length.min(following.len());
        message.extend_from_slice(&following[..there]);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Malformed("it doesn't begin with a ClientHello"));
        }
        if let Some((&[_, a, b, c], content)) = message.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MAX_CLIENT_HELLO_LENGTH {
                return Err(TooLong);
            }
            if let Some(content) = content.get(..length) {
                return Ok(Some(content.to_vec()));
            }
        }
        if there < length {
            return Ok(None);
        }
        rest = &following[there..];
    }
}

fn parse_body(message: &[u8]) -> Result<ClientHello, InvalidClientHello> {
    let mut reader = Reader(message);
    // Version and random.
    reader.read_bytes(2 + 32)?;
    let _session = reader.read_u8_list()?;
    let _ciphers = reader.read_u16_list()?;
    let _compressions = reader.read_u8_list()?;
    let mut server_name = None;
    if !reader.0.is_empty() {
        let mut extensions = Reader(reader.read_u16_list()?);
        if !reader.0.is_empty() {
            return Err(Malformed("bytes follow its extensions"));
        }
        while !extensions.0.is_empty() {
            let (kind, content) = (extensions.read_u16()?, extensions.read_u16_list()?);
            // Of two names, whoever comes after us could take the other.
            if kind == SERVER_NAME && server_name.replace(parse_server_name(content)?).is_some() {
                return Err(Malformed("it names its server twice"));
            }
        }
    }
    Ok(ClientHello { server_name })
}

/// The name in the content of a `server_name` extension.
fn parse_server_name(content: &[u8]) -> Result<Arc<str>, InvalidClientHello> {
    let mut reader = Reader(content);
    let mut names = Reader(reader.read_u16_list()?);
    let kind = names.read_bytes(1)?;
    let name = names.read_u16_list()?;
    if kind != [HOST_NAME] || !names.0.is_empty() || !reader.0.is_empty() {
        return Err(Malformed("its server name is not one host name"));
    }
    let text = std::str::from_utf8(name).ok();
    text.and_then(normalize_host)
        .ok_or(Malformed("its server name is not a DNS name"))
}

/// The bytes that are left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn read_bytes(&mut self, count: usize) -> Result<&'a [u8], InvalidClientHello> {
        let short = Malformed("a length in it goes beyond its end");
        let (taken, rest) = self.0.split_at_checked(count).ok_or(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn read_u16(&mut self) -> Result<u16, InvalidClientHello> {
        let bytes = self.read_bytes(2)?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u16::from(*byte)))
    }

    /// Bytes behind a length of two bytes.
    fn read_u16_list(&mut self) -> Result<&'a [u8], InvalidClientHello> {
        let length = self.read_u16()?;
        self.read_bytes(length.into())
    }

    /// Bytes behind a length of one byte.
    fn read_u8_list(&mut self) -> Result<&'a [u8], InvalidClientHello> {
        let length = self.read_bytes(1)?;
        self.read_bytes(length.iter().map(|byte| usize::from(*byte)).sum())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&length, content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &list(content)].concat()
    }

    fn server_name(name: &str) -> Vec<u8> {
        extension(
            0,
            &list(&[&[HOST_NAME][..], &list(name.as_bytes())].concat()),
        )
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([1, 9]);
        body.extend(list(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(list(extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let records = message.chunks(size);
        records
            .flat_map(|part| [&[HANDSHAKE, 3, 1][..], &list(part)].concat())
            .collect()
    }

    fn server_name_of(bytes: &[u8]) -> Option<String> {
        parse(bytes)
            .unwrap()
            .unwrap()
            .server_name
            .map(|name| name.to_string())
    }

    #[test]
    fn the_name_is_found_whatever_else_is_said() {
        let other = extension(0x33, &[5; 1200]);
        let all = [&other[..], &server_name("Shop.Example.ORG"), &other].concat();
        assert_eq!(
            server_name_of(&records(&hello(&all), 16384)).unwrap(),
            "shop.example.org"
        );
        assert_eq!(
            server_name_of(&records(&hello(&server_name("a.b.")), 16384)).unwrap(),
            "a.b"
        );
        assert_eq!(server_name_of(&records(&hello(&other), 16384)), None);
        // As before TLS had extensions.
        let mut bare = hello(&[]);
        bare.truncate(bare.len() - 2);
        bare[3] -= 2;
        assert_eq!(server_name_of(&records(&bare, 16384)), None);
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        let two = [&[0][..], &list(b"a.example"), &[0], &list(b"b.example")].concat();
        for extensions in [
            [server_name("a.example"), server_name("b.example")].concat(),
            extension(0, &list(&two)),
            extension(0, &[]),
            extension(0, &list(&[1, 0, 1, b'a'])),
            server_name(""),
            server_name("."),
            server_name("a b"),
            server_name("a\0.example"),
            server_name("ä.example"),
            server_name(&"a".repeat(254)),
        ] {
            let parsed = parse(&records(&hello(&extensions), 16384));
            assert!(matches!(parsed, Err(Malformed(_))), "{parsed:?}");
        }
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x",
            b"\x15\x03\x01",
            b"\x16\x02",
        ] {
            assert_eq!(parse(bytes), Err(NotTls), "{bytes:?}");
        }
        assert!(
            matches!(parse(b"\x16\x03\x01\x00\x04\x02"), Err(Malformed(_))),
            "a ServerHello"
        );
        assert!(matches!(parse(b"\x16\x03\x01\x00\x00"), Err(Malformed(_))));
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn a_message_without_end_is_not_awaited() {
        assert_eq!(parse(b"\x16\x03\x01\x40\x00\x01\xff\x00\x00"), Err(TooLong));
        let longest = records(&hello(&extension(0x33, &[5; 16_000])), 64);
        assert_eq!(parse(&longest[..MAX_CLIENT_HELLO_LENGTH]), Err(TooLong));
        assert_eq!(parse(&longest[..MAX_CLIENT_HELLO_LENGTH - 1]), Ok(None));
    }

    proptest! {
        #[test]
        fn every_way_of_cutting_it_gives_the_same(
            name in "[a-z]{1,20}(\\.[a-z]{1,20}){0,3}", padding in 0usize..600, size in 1usize..700, cut in 0usize..2000,
        ) {
            let extensions = [extension(0x15, &vec![0; padding]), server_name(&name)].concat();
            let bytes = records(&hello(&extensions), size);
            let cut = cut % bytes.len();
            prop_assert_eq!(parse(&bytes[..cut]), Ok(None), "a part is never enough");
            prop_assert_eq!(server_name_of(&bytes), Some(name));
        }

        /// What was told of the first bytes stays true when more follow.
        #[test]
        fn more_bytes_change_no_answer(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..200, value: u8, cut in 0usize..300, valid: bool,
        ) {
            if valid {
                bytes = records(&hello(&server_name("shop.example.org")), 40);
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let cut = cut.min(bytes.len());
            match parse(&bytes[..cut]) {
                Ok(None) => {}
                decided => prop_assert_eq!(parse(&bytes), decided),
            }
        }
    }
}
