//! Files that hold secrets, and files that are never half written.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Only for the owner.
pub(super) const PRIVATE: u32 = 0o600;
/// For everybody to read.
pub(super) const PUBLIC: u32 = 0o644;

/// Creates a file that only its owner can read; never replaces one.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    write_new(path, content, PRIVATE)
}

/// Creates or replaces a file. Who reads it meanwhile, and who reads it after a crash,
/// finds all of the one or all of the other.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    // That of a run that crashed.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_new(&unfinished, content, mode)?;
    fs::rename(&unfinished, path)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Reads a file, no more of it than that many bytes.
///
/// # Errors
/// When it can't be read.
pub(super) fn read_at_most(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = fs::File::open(path)?;
    let limit = u64::try_from(bytes).unwrap_or(u64::MAX);
    io::Read::read_to_end(&mut io::Read::take(file, limit), &mut content)?;
    Ok(content)
}
