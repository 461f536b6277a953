//! Images for nodes that this process doesn't hold.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Binaries, node};
use crate::error::{Error, Result};

/// Gives an image to every node that is up, of a cluster that another process holds.
/// `directory` is that cluster's [`Cluster::directory`](super::Cluster::directory).
///
/// # Errors
/// When no node is there, or one refuses it.
pub fn load_archive_into(directory: &Path, binaries: &Binaries, archive: &Path) -> Result<()> {
    let archive = std::path::absolute(archive)
        .map_err(Error::system(format!("find {}", archive.display())))?;
    let nodes =
        fs::read_dir(directory).map_err(Error::system(format!("read {}", directory.display())))?;
    let processes = nodes.flatten().filter_map(|node| {
        let text = fs::read_to_string(node.path().join("process")).ok()?;
        text.parse().ok()
    });
    let processes: Vec<u32> = processes.collect();
    if processes.is_empty() {
        return Err(Error::Missing("no node is up".to_owned()));
    }
    let ctr = binaries.path("containerd/ctr")?;
    let mut processes = processes.into_iter();
    processes.try_for_each(|process| node::load(ctr, process, &archive))
}

/// Gives an image to the nodes of a cluster that isn't ours, by a command that the file
/// follows, such as `kind load image-archive`.
///
/// # Errors
/// When the command can't be run or fails.
pub fn load_by_command(command: &str, archive: &Path) -> Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next();
    let program = program.ok_or_else(|| {
        Error::Missing("the command that gives images to nodes is empty".to_owned())
    })?;
    let line = format!("{command} {}", archive.display());
    let status = Command::new(program)
        .args(words)
        .arg(archive)
        .status()
        .map_err(Error::system(format!("run {line}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Program {
        command: line,
        status: status.to_string(),
        output: "see above".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_gets_the_file_and_a_failure_names_both() {
        let archive = Path::new("/tmp/image.tar");
        load_by_command("test /tmp/image.tar =", archive).unwrap();
        let error = load_by_command("test other =", archive).unwrap_err();
        assert!(
            error.to_string().contains("`test other = /tmp/image.tar`"),
            "{error}"
        );
        let error = load_by_command(" ", archive).unwrap_err();
        assert!(error.to_string().contains("is empty"), "{error}");
    }
}
