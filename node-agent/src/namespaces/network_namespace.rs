//! Network namespaces: opening them, telling them apart, and working inside them.

use std::cell::OnceCell;
use std::fs::{File, Metadata};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockaddrStorage;
use socket2::{Domain, Socket, Type};

/// The folder of named namespaces, as `ip netns` keeps it.
pub(super) const NAMED_NAMESPACES: &str = "/run/netns";

thread_local! {
    /// The namespace that this thread belongs to when it isn't working in another.
    static HOME: OnceCell<File> = const { OnceCell::new() };
}

/// An open network namespace. It lives for as long as this does, also when its last
/// process has ended: drop it when the pod is gone.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
    cookie: u64,
    identity: NamespaceIdentity,
}

/// Tells two open namespaces apart. An inode is used again after its namespace is gone,
/// so this is no name to keep.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NamespaceIdentity {
    /// Device of the kernel's namespace file system.
    pub device: u64,
    /// Inode there.
    pub inode: u64,
}

impl NamespaceIdentity {
    /// The identity of the namespace that a path leads to, without opening it.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&std::fs::metadata(path)?))
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// A reason that a network namespace can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The file can't be opened.
    #[error("cannot open network namespace {path}: {error}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a network namespace that this process may enter: {error}")]
    Enter {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The kernel doesn't know `SO_NETNS_COOKIE`.
    #[error("the kernel gives no cookie for network namespace {path} (Linux 5.14 does): {error}")]
    Cookie {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
}

impl NamespaceError {
    /// Whether there is no such file, or no such process any more.
    pub(super) fn is_missing(&self) -> bool {
        let Self::Open { error, .. } = self else {
            return false;
        };
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
    }
}

impl NetworkNamespace {
    /// The namespace that `ip netns add NAME` made: `/run/netns/NAME`.
    ///
    /// # Errors
    /// When there is none of that name or it can't be entered.
    pub fn open_named(name: &str) -> Result<Self, NamespaceError> {
        Self::open(&Path::new(NAMED_NAMESPACES).join(name))
    }

    /// The namespace of a process, seen through this process's `/proc`.
    ///
    /// # Errors
    /// When the process is gone or its namespace can't be entered.
    pub fn open_of_process(pid: u32) -> Result<Self, NamespaceError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    /// When `/proc` isn't mounted or the kernel is too old.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A namespace by the path of its file.
    ///
    /// # Errors
    /// When it can't be opened or entered.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        let open = |error| NamespaceError::Open {
            path: path.to_owned(),
            error,
        };
        Self::from_file(File::open(path).map_err(open)?, path)
    }

    /// A namespace from an open file; the path is for messages only.
    ///
    /// # Errors
    /// When it is no network namespace or can't be entered.
    pub fn from_file(file: File, path: &Path) -> Result<Self, NamespaceError> {
        let path = || path.to_owned();
        let metadata = file.metadata().map_err(|error| NamespaceError::Open {
            path: path(),
            error,
        })?;
        let identity = NamespaceIdentity::from_metadata(&metadata);
        let cookie = inside(file.as_fd(), || {
            Socket::new(Domain::UNIX, Type::DGRAM, None)?.namespace_cookie()
        })
        .map_err(|error| NamespaceError::Enter {
            path: path(),
            error,
        })?
        .map_err(|error| NamespaceError::Cookie {
            path: path(),
            error,
        })?;
        Ok(Self {
            file,
            cookie,
            identity,
        })
    }

    /// The kernel's name for it, never used again while the machine runs.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Device and inode, to compare with another open namespace.
    pub fn identity(&self) -> NamespaceIdentity {
        self.identity
    }

    /// The addresses by which others reach it: all but loopback's and those that count
    /// on one link only.
    ///
    /// # Errors
    /// When the namespace can't be entered, or the kernel doesn't tell.
    pub fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let found = self.run(nix::ifaddrs::getifaddrs)??;
        let address = |address: SockaddrStorage| match address.as_sockaddr_in() {
            Some(v4) => Some(IpAddr::V4(v4.ip())),
            None => address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())),
        };
        let is_global = |address: &IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let addresses = found.filter_map(|interface| address(interface.address?));
        Ok(addresses.filter(is_global).collect())
    }

    /// Runs a closure inside the namespace, on this thread. Sockets that it makes stay
    /// in the namespace. It must not block for long: the thread serves others too.
    ///
    /// Ends the process when the thread can't come back: everything it did afterwards
    /// would happen in the wrong pod.
    ///
    /// # Errors
    /// When the namespace can't be entered.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        inside(self.file.as_fd(), work)
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Enters a namespace for the time of a closure.
fn inside<T>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
    HOME.with(|home| {
        let home = match home.get() {
            Some(file) => file,
            None => {
                let file = File::open("/proc/thread-self/ns/net")?;
                home.get_or_init(|| file)
            }
        };
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let back = HomeGuard(home);
        let result = work();
        drop(back);
        Ok(result)
    })
}

/// Brings the thread home, also when the closure panics.
struct HomeGuard<'a>(&'a File);

impl Drop for HomeGuard<'_> {
    fn drop(&mut self) {
        if let Err(error) = setns(self.0, CloneFlags::CLONE_NEWNET) {
            tracing::error!(%error, "cannot leave a pod's network namespace");
            std::process::abort();
        }
    }
}

/// `SO_NETNS_COOKIE`, which socket2 doesn't know.
trait NamespaceCookie {
    fn namespace_cookie(&self) -> io::Result<u64>;
}

impl NamespaceCookie for Socket {
    fn namespace_cookie(&self) -> io::Result<u64> {
        let mut cookie = 0u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: `cookie` is writable for `length` bytes, and both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            Ok(cookie)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// From the kernel's `asm-generic/socket.h`; libc doesn't have it for every target.
const SO_NETNS_COOKIE: libc::c_int = 71;
