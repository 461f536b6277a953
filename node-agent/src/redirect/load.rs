//! Loading the programs, and finding out which of them work on this node.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, Program, ProgramError, ProgramType, SkLookup, SockOps,
};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader};
use nix::sched::{CloneFlags, unshare};
use weft_ebpf_common::constant;

use super::cgroup::{Cgroup, ScratchCgroup};
use super::{RedirectError, UnknownPods, error};

#[cfg(weft_ebpf_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("WEFT_EBPF_EMBEDDED")));
#[cfg(not(weft_ebpf_object))]
static OBJECT: Option<&[u8]> = None;

/// Programs on the cgroup, by their names in the object.
pub(super) const CGROUP_PROGRAMS: [&str; 5] = [
    "connect4",
    "connect6",
    "getpeername4",
    "getpeername6",
    "socket_events",
];
/// Programs on a pod's network namespace: permissive, strict.
pub(super) const LOOKUP_PROGRAMS: [&str; 2] = ["lookup_permissive", "lookup_strict"];

/// What the programs are told before they are loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constants {
    pub(super) unknown_pods: UnknownPods,
    pub(super) pods_cgroup: Option<u64>,
    pub(super) log: bool,
}

/// What the kernel has beyond the oldest one that the programs run on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Features {
    set_retval: bool,
    ingress_interface: bool,
}

/// Which programs work on this node, tried for real: loaded, and attached to a cgroup
/// or namespace made for the purpose.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capabilities {
    programs: Vec<(&'static str, Option<String>)>,
}

impl Capabilities {
    /// Whether connections can be captured here.
    pub fn is_complete(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The programs that don't work, each with the reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.programs
            .iter()
            .filter_map(|(name, failure)| Some((*name, failure.as_deref()?)))
    }

    fn record(&mut self, name: &'static str, result: Result<(), String>) {
        self.programs.push((name, result.err()));
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: Vec<String> = self
            .failures()
            .map(|(name, reason)| format!("{name}: {reason}"))
            .collect();
        match failures.is_empty() {
            true => write!(f, "all {} eBPF programs work", self.programs.len()),
            false => error::list(f, &failures),
        }
    }
}

/// Loads the object and every program. Maps are taken from, or pinned to, the folder
/// given.
///
/// # Errors
/// [`RedirectError::Incapable`] when a program can't be loaded, with all that can't.
pub(super) fn load(constants: Constants, maps: Option<&Path>) -> Result<Ebpf, RedirectError> {
    let Some(bytes) = OBJECT else {
        return Err(RedirectError::NoObject);
    };
    let set_retval =
        is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval)
            .unwrap_or(false);
    let newest = Features {
        set_retval,
        ingress_interface: true,
    };
    let (object, capabilities) = load_with(bytes, constants, newest, maps)?;
    if capabilities.is_complete() {
        return Ok(object);
    }
    let oldest = Features {
        ingress_interface: false,
        ..newest
    };
    drop(object);
    let (object, older) = load_with(bytes, constants, oldest, maps)?;
    match older.is_complete() {
        true => Ok(object),
        false => Err(RedirectError::Incapable(older)),
    }
}

fn load_with(
    bytes: &[u8],
    constants: Constants,
    features: Features,
    maps: Option<&Path>,
) -> Result<(Ebpf, Capabilities), RedirectError> {
    let refuse = u8::from(constants.unknown_pods == UnknownPods::Refuse);
    let pods_cgroup = constants.pods_cgroup.unwrap_or(0);
    let has_set_retval = u8::from(features.set_retval);
    let has_ingress_interface = u8::from(features.ingress_interface);
    let log_level = if constants.log {
        aya_log::Level::Debug as u8
    } else {
        0
    };
    let paths: Vec<_> = MAPS
        .iter()
        .map(|name| (name, maps.map(|folder| folder.join(name))))
        .collect();
    let mut loader = EbpfLoader::new();
    loader
        .override_global(constant::REFUSE_UNKNOWN_PODS, &refuse, true)
        .override_global(constant::PODS_CGROUP, &pods_cgroup, true)
        .override_global(constant::HAS_SET_RETVAL, &has_set_retval, true)
        .override_global(
            constant::HAS_INGRESS_INTERFACE,
            &has_ingress_interface,
            true,
        )
        .override_global(aya_log::LEVEL, &log_level, false);
    for (name, path) in &paths {
        if let Some(path) = path {
            loader.map_pin_path(name, path.as_path());
        }
    }
    let mut object = loader.load(bytes)?;
    let mut capabilities = Capabilities::default();
    for name in CGROUP_PROGRAMS.into_iter().chain(LOOKUP_PROGRAMS) {
        let result = load_program(program(&mut object, name)?);
        capabilities.record(name, result.map_err(|error| error.to_string()));
    }
    Ok((object, capabilities))
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// A program of the object, by its name.
pub(super) fn program<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Program, RedirectError> {
    let missing = || RedirectError::Missing {
        kind: "program",
        name: name.to_owned(),
    };
    object.program_mut(name).ok_or_else(missing)
}

/// Attaches every loaded program to a scratch cgroup or namespace, and takes it off again.
///
/// # Errors
/// [`RedirectError::Incapable`] with all that can't be attached.
pub(super) fn try_attaching(
    object: &mut Ebpf,
    cgroup: &Cgroup,
) -> Result<Capabilities, RedirectError> {
    let scratch = ScratchCgroup::create(cgroup)?;
    let action = "make a scratch network namespace";
    let namespace = scratch_namespace().map_err(|error| RedirectError::System { action, error })?;
    let mut capabilities = Capabilities::default();
    for name in CGROUP_PROGRAMS.into_iter().chain(LOOKUP_PROGRAMS) {
        let result = try_program(program(object, name)?, &scratch.cgroup, &namespace);
        capabilities.record(name, result.map_err(|error| chain(&error)));
    }
    match capabilities.is_complete() {
        true => Ok(capabilities),
        false => Err(RedirectError::Incapable(capabilities)),
    }
}

fn try_program(
    program: &mut Program,
    cgroup: &Cgroup,
    namespace: &File,
) -> Result<(), ProgramError> {
    let mode = CgroupAttachMode::Single;
    match program {
        Program::CgroupSockAddr(program) => {
            let link = CgroupSockAddr::attach(program, cgroup, mode)?;
            program.detach(link)
        }
        Program::SockOps(program) => {
            let link = SockOps::attach(program, cgroup, mode)?;
            program.detach(link)
        }
        Program::SkLookup(program) => {
            let link = SkLookup::attach(program, namespace)?;
            program.detach(link)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// A new network namespace that ends with its file.
fn scratch_namespace() -> io::Result<File> {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    });
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Every map of the object that user space knows.
const MAPS: [&str; 13] = {
    use weft_ebpf_common::map::*;
    [
        NAMESPACES,
        EXCLUDED_PORTS,
        EXCLUDED_BLOCKS,
        POD_ADDRESSES,
        LISTENERS,
        OWN_SOCKETS,
        DESTINATIONS,
        CLIENTS,
        NODE_SOCKETS,
        PENDING,
        OWN_CONNECTIONS,
        NODE_CONNECTIONS,
        COUNTERS,
    ]
};

#[cfg(all(test, feature = "kernel-tests"))]
mod tests {
    use super::*;

    #[test]
    fn the_programs_load_without_what_only_newer_kernels_have() {
        let constants = Constants {
            unknown_pods: UnknownPods::Refuse,
            pods_cgroup: Some(1),
            log: false,
        };
        let features = Features {
            set_retval: false,
            ingress_interface: false,
        };
        let bytes = OBJECT.expect("`cargo xtask build-ebpf` comes first");
        let (_, capabilities) = load_with(bytes, constants, features, None).expect("an object");
        assert!(capabilities.is_complete(), "{capabilities}");
    }
}
