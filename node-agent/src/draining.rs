//! Agents that have handed the node over and whose connections are still open: a successor must
//! not take those for connections that run past the proxy.
//!
//! ```text
//! <pin directory>/draining-<process>   a folder for each, which that process holds open
//! ```

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "draining-";

/// Says of this agent that it has handed over, until it is dropped.
#[derive(Debug)]
pub(crate) struct DrainingMark {
    path: PathBuf,
    /// Shows that the folder is this process's.
    _folder: File,
}

impl DrainingMark {
    /// Says it in the pin directory.
    ///
    /// # Errors
    /// When the folder can't be made there.
    pub(crate) fn set(pin_directory: &Path) -> io::Result<Self> {
        let path = pin_directory.join(format!("{PREFIX}{}", std::process::id()));
        match fs::create_dir(&path) {
            // Of one that was killed and had this number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        let folder = File::open(&path)?;
        Ok(Self {
            path,
            _folder: folder,
        })
    }
}

impl Drop for DrainingMark {
    fn drop(&mut self) {
        // A successor may have taken it away, as that of a process which it doesn't see.
        let _ = fs::remove_dir(&self.path);
    }
}

/// The agents that have handed over to others with the same pin directory.
#[derive(Clone, Debug, Default)]
pub struct DrainingAgents {
    pin_directory: Option<PathBuf>,
}

impl DrainingAgents {
    /// Those of a pin directory; without one there are none.
    pub fn new(pin_directory: Option<&Path>) -> Self {
        Self {
            pin_directory: pin_directory.map(Path::to_owned),
        }
    }

    /// The inodes of their sockets.
    pub fn sockets(&self) -> HashSet<u32> {
        let mut sockets = HashSet::new();
        for folder in self.pin_directory.iter().flat_map(|path| marks(path)) {
            match sockets_of(&folder) {
                Ok(Some(of_agent)) => sockets.extend(of_agent),
                // It was killed.
                Ok(None) => _ = fs::remove_dir(&folder),
                Err(error) => {
                    tracing::warn!(%error, mark = %folder.display(), "the connections of an agent that has handed over may be taken for others, and ended");
                }
            }
        }
        sockets
    }
}

/// Takes away the marks of a pin directory.
pub(crate) fn remove_marks(pin_directory: &Path) {
    for folder in marks(pin_directory) {
        let _ = fs::remove_dir(folder);
    }
}

/// The inodes of a process's open sockets; `self` is this one.
///
/// # Errors
/// When `/proc` doesn't tell.
pub(crate) fn open_sockets(process: &str) -> io::Result<HashSet<u32>> {
    let open = fs::read_dir(format!("/proc/{process}/fd"))?;
    Ok(open
        .filter_map(|entry| socket_inode(&entry.ok()?.path()))
        .collect())
}

fn marks(pin_directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(pin_directory).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| process_of(path).is_some()).collect()
}

fn process_of(mark: &Path) -> Option<&str> {
    let process = mark.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    process.parse::<u32>().is_ok().then_some(process)
}

/// The sockets of the agent that has set a mark; `None` when it is gone: another process may have
/// its number by now, but doesn't hold the mark.
fn sockets_of(mark: &Path) -> io::Result<Option<HashSet<u32>>> {
    let Some(process) = process_of(mark) else {
        return Ok(None);
    };
    let (identity, open) = match (fs::metadata(mark), open_sockets(process)) {
        (Ok(mark), Ok(open)) => ((mark.dev(), mark.ino()), open),
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let holds_mark = fs::read_dir(format!("/proc/{process}/fd"))?.any(|entry| {
        let held = entry.and_then(|entry| fs::metadata(entry.path()));
        held.is_ok_and(|held| (held.dev(), held.ino()) == identity)
    });
    Ok(holds_mark.then_some(open))
}

fn socket_inode(descriptor: &Path) -> Option<u32> {
    let target = fs::read_link(descriptor).ok()?;
    let inode = target.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn inode(socket: &TcpListener) -> u32 {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        socket_inode(Path::new(&path)).unwrap()
    }

    #[test]
    fn the_sockets_of_an_agent_are_known_for_as_long_as_it_says_that_it_has_handed_over() {
        let directory = tempfile::tempdir().unwrap();
        let agents = DrainingAgents::new(Some(directory.path()));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(agents.sockets().is_empty());
        let mark = DrainingMark::set(directory.path()).unwrap();
        assert!(agents.sockets().contains(&inode(&socket)));
        drop(mark);
        assert!(agents.sockets().is_empty());
        assert!(DrainingAgents::default().sockets().is_empty());
    }

    #[test]
    fn whoever_doesnt_hold_a_mark_has_none_and_it_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let agents = DrainingAgents::new(Some(directory.path()));
        let _socket = TcpListener::bind("127.0.0.1:0").unwrap();
        // Of an agent that was killed and had this process's number, and of a number that nobody has.
        let own = directory
            .path()
            .join(format!("{PREFIX}{}", std::process::id()));
        let nobodys = directory.path().join(format!("{PREFIX}{}", u32::MAX));
        let other = directory.path().join("v1");
        for folder in [&own, &nobodys, &other] {
            fs::create_dir(folder).unwrap();
        }
        assert!(agents.sockets().is_empty());
        assert_eq!(
            [&own, &nobodys, &other].map(|folder| folder.exists()),
            [false, false, true]
        );
    }
}
