//! Loading the programs, with what this kernel has.

use std::path::Path;

use aya::programs::{Program, ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader};
use weft_ebpf_common::constant;

use super::capabilities::Capabilities;
use super::error::RedirectError;
use super::object::program;
use super::options::UnknownPods;
use super::programs;

#[cfg(weft_ebpf_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("WEFT_EBPF_EMBEDDED")));
#[cfg(not(weft_ebpf_object))]
static OBJECT: Option<&[u8]> = None;

/// Constants of the programs, which they are told before they are loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constants {
    pub(super) unknown_pods: UnknownPods,
    pub(super) pods_cgroup: Option<u64>,
    pub(super) log: bool,
}

/// Features that the kernel has beyond the oldest one that the programs run on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Features {
    set_retval: bool,
    ingress_interface: bool,
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
    for name in programs::all() {
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
