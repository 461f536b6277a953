//! What the programs of a mesh share.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

/// How long the mesh may take for any one step: generous, because a loaded machine is
/// slow and a broken mesh never gets there.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where an admin endpoint answers, in its node's namespace.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Writes a file.
pub(super) fn append(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::system(format!("write {}", path.display())))
}
