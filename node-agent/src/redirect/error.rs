//! Errors between the agent and the kernel.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;

use super::capabilities::Capabilities;
use super::cgroup::CgroupError;
use super::pins::PinsError;
use crate::namespaces::NamespaceError;

/// A reason that connections can't be captured. Each message says what an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The agent was built without them.
    #[error(
        "this binary was built without the eBPF programs: run `cargo xtask build-ebpf`, then build \
         the agent again"
    )]
    NoObject,
    /// The object doesn't fit this kernel, or the process may not load it.
    #[error("cannot load the eBPF object: {error}{}", hint(.error))]
    Object {
        /// The reason that aya or the kernel gives.
        error: Box<EbpfError>,
    },
    /// The object is not the one that this agent was written for.
    #[error(
        "the eBPF object has no {kind} `{name}`: it is not of this version; run `cargo xtask \
         build-ebpf` and build the agent again"
    )]
    Missing {
        /// Map or program.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The kernel refuses a program.
    #[error("the kernel refuses eBPF program {program}: {error}{}", program_hint(.error))]
    Program {
        /// Its name.
        program: &'static str,
        /// The kernel's reason.
        error: Box<ProgramError>,
    },
    /// Not every program works on this node.
    #[error("this node cannot capture connections: {0}")]
    Incapable(Capabilities),
    /// A map can't be read or written.
    #[error("cannot {action} in eBPF map {map}: {error}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The action that was tried.
        action: &'static str,
        /// The kernel's reason.
        error: MapError,
    },
    /// It would take the room of other pods.
    #[error(
        "the pod has {count} {of}, at most {most} are possible: shorten the list, other pods need \
         room in the kernel's table, too"
    )]
    TooMany {
        /// What it has so many of.
        of: &'static str,
        /// How many it has.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// There is no usable cgroup v2 hierarchy.
    #[error("{0}")]
    Cgroup(#[from] CgroupError),
    /// The folder for pins can't be used.
    #[error("{0}")]
    Pins(#[from] PinsError),
    /// A pin can't be made.
    #[error("cannot pin {name} at {path}: {error}")]
    Pin {
        /// The name of the map or program.
        name: String,
        /// The path of the pin.
        path: PathBuf,
        /// The kernel's reason.
        error: PinError,
    },
    /// Capturing it would capture the node itself.
    #[error("the pod is in the node's own network namespace (hostNetwork) and cannot be captured")]
    HostNamespace,
    /// Two pods would fight over the connections of one.
    #[error("the pod's network namespace is captured already, for another pod or an earlier one")]
    AlreadyCaptured,
    /// It would take another pod's connections.
    #[error(
        "address {0} is in the pod's network namespace and is another pod's: the pod gets it when \
         the control plane says so"
    )]
    AddressTaken(IpAddr),
    /// The node's own namespace can't be found out.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A pod's namespace can't be entered, or a scratch namespace made.
    #[error("cannot {action}: {error}")]
    System {
        /// The action that was tried.
        action: &'static str,
        /// The kernel's reason.
        error: io::Error,
    },
}

impl RedirectError {
    pub(super) fn map(map: &'static str, action: &'static str) -> impl FnOnce(MapError) -> Self {
        move |error| Self::Map { map, action, error }
    }

    pub(super) fn program(program: &'static str) -> impl FnOnce(ProgramError) -> Self {
        move |error| Self::Program {
            program,
            error: Box::new(error),
        }
    }
}

impl From<EbpfError> for RedirectError {
    fn from(error: EbpfError) -> Self {
        Self::Object {
            error: Box::new(error),
        }
    }
}

const MORE_RIGHTS: &str =
    " (the agent needs root, or CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_PERFMON)";

fn hint(error: &EbpfError) -> &'static str {
    match not_permitted(error) {
        true => MORE_RIGHTS,
        false => "",
    }
}

fn program_hint(error: &ProgramError) -> &'static str {
    match not_permitted(error) {
        true => MORE_RIGHTS,
        false => "",
    }
}

impl RedirectError {
    /// The agent lacks rights, or there is no memory just now: that says nothing of its node's
    /// kernel, and may be another's fault or over in a moment.
    pub fn is_of_process(&self) -> bool {
        match self {
            Self::Object { error } => lacks_means(error),
            Self::Program { error, .. } => lacks_means(error),
            _ => false,
        }
    }
}

/// EACCES is the verifier's no.
fn lacks_means(error: &(dyn std::error::Error + 'static)) -> bool {
    let lacking = [libc::EPERM, libc::ENOMEM, libc::EAGAIN];
    kernels(error).is_some_and(|error| {
        error
            .raw_os_error()
            .is_some_and(|number| lacking.contains(&number))
    })
}

fn not_permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    kernels(error).is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The kernel's own error, anywhere below another one.
fn kernels<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}
