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
    mptcp: bool,
    ingress_interface: bool,
}

/// Loads the object and every program. Maps are taken from, or pinned to, the folder
/// given.
///
/// # Errors
/// [`RedirectError::Incapable`] when a program can't be loaded, with all that can't.
pub(super) fn load(
    constants: Constants,
    sizes: &[(&'static str, u32)],
    maps: Option<&Path>,
) -> Result<Ebpf, RedirectError> {
    let Some(bytes) = OBJECT else {
        return Err(RedirectError::NoObject);
    };
    let set_retval =
        is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval)
            .unwrap_or(false);
    // Newest first. Kernels that were built without MPTCP have its helper, too, but load no
    // program that calls it: only trying tells.
    let mut incapable = Capabilities::default();
    for (mptcp, ingress_interface) in [(true, true), (false, true), (false, false)] {
        let features = Features {
            set_retval,
            mptcp,
            ingress_interface,
        };
        let (object, capabilities) = load_with(bytes, constants, features, sizes, maps)?;
        if capabilities.is_complete() {
            return Ok(object);
        }
        incapable = capabilities;
    }
    Err(RedirectError::Incapable(incapable))
}

fn load_with(
    bytes: &[u8],
    constants: Constants,
    features: Features,
    sizes: &[(&'static str, u32)],
    maps: Option<&Path>,
) -> Result<(Ebpf, Capabilities), RedirectError> {
    let refuse = u8::from(constants.unknown_pods == UnknownPods::Refuse);
    let pods_cgroup = constants.pods_cgroup.unwrap_or(0);
    let has_set_retval = u8::from(features.set_retval);
    let has_mptcp = u8::from(features.mptcp);
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
        .override_global(constant::HAS_MPTCP, &has_mptcp, true)
        .override_global(
            constant::HAS_INGRESS_INTERFACE,
            &has_ingress_interface,
            true,
        )
        .override_global(aya_log::LEVEL, &log_level, false);
    for &(name, size) in sizes {
        loader.map_max_entries(name, size);
    }
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
        Program::SocketFilter(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The maps that a successor takes over. What is held or was reached is forgotten with the
/// agent.
const MAPS: [&str; 19] = {
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
        LISTENER_NAMESPACES,
        PENDING_SLOTS,
        PENDING,
        OWN_SLOTS,
        NODE_SLOTS,
        OWN_CONNECTIONS,
        NODE_CONNECTIONS,
        KUBELETS,
        NODE_PORTS,
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
            mptcp: false,
            ingress_interface: false,
        };
        let bytes = OBJECT.expect("`cargo xtask build-ebpf` comes first");
        let (_, capabilities) =
            load_with(bytes, constants, features, &[], None).expect("an object");
        assert!(capabilities.is_complete(), "{capabilities}");
    }
}
