//! Archives as POSIX's `ustar` has them (pax(1), "ustar Interchange Format"): files and
//! directories of root, all of one time, so that the same content gives the same bytes.

use std::io::{self, Write};

const BLOCK: usize = 512;
/// What `header[148..156]` holds while its sum is taken.
const NO_CHECKSUM: [u8; 8] = [b' '; 8];

/// An archive that is being written.
pub(super) struct Archive<W> {
    to: W,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to }
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.to
            .write_all(&header(&format!("{name}/"), mode, 0, b'5')?)
    }

    /// Adds a file.
    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.to
            .write_all(&header(name, mode, content.len(), b'0')?)?;
        self.to.write_all(content)?;
        let padding = content.len().next_multiple_of(BLOCK) - content.len();
        self.to.write_all(&[0; BLOCK][..padding])
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }
}

fn header(name: &str, mode: u32, size: usize, kind: u8) -> io::Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let too_long = || io::Error::other(format!("the path is too long for an archive: {name}"));
    let field = header
        .get_mut(..100)
        .and_then(|field| field.get_mut(..name.len()));
    field.ok_or_else(too_long)?.copy_from_slice(name.as_bytes());
    let mut number = |from: usize, digits: usize, value: usize| {
        let text = format!("{value:0digits$o}");
        header[from..from + text.len()].copy_from_slice(text.as_bytes());
    };
    number(100, 7, mode as usize);
    number(108, 7, 0);
    number(116, 7, 0);
    number(124, 11, size);
    number(136, 11, 0);
    header[148..156].copy_from_slice(&NO_CHECKSUM);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: usize = header.iter().map(|byte| usize::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}
